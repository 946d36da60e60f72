// Space: how much of the disk the state directory occupies, and the cap on it. Bytes are those of blocks that files
// and directories take (what `du -x` adds up), not their lengths. Shared by all processes that use the directory:
// what each of them is about to write is added up in one page of memory, the file "space".
//
// Two kinds of writers. Those in this process ask before they write (charge). What steps write nobody can ask for:
// it is watched (watch). When it would not fit, steps are held up while room is made, and one is stopped when none can
// be made. So that this is in time, writers are refused before the cap is reached: margin_of() says how long before.
//
// Two threads: the guard asks the file system every few milliseconds how much is free, and holds steps up; the keeper
// measures, removes cache and decides who goes.
//
// Without a limit nothing is measured, charged or watched. Any thread.
#pragma once

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "sys/fd.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <thread>
#include <vector>

namespace cooper::store {

// Bytes on disk of a file tree, an inode counted once; other file systems below it are left out. 0 when it is not
// there.
[[nodiscard]] std::uint64_t disk_bytes(const std::string& host_path);

class Space {
public:
    struct Limit {
        std::uint64_t max_bytes = 0;
        // What the directory takes now, as exactly as it can be said without looking at every layer's files.
        std::function<Result<std::uint64_t>()> measure;
        // The same, looking at every file.
        std::function<Result<std::uint64_t>()> measure_all;
        // Removes cache until so many bytes are free, if it can.
        std::function<Result<>(std::uint64_t bytes)> evict;
        // What the space is taken by, for people: "1.2 GB of it are …".
        std::function<std::string()> describe;
    };

    explicit Space(std::string root) : root_(std::move(root)) {}
    ~Space();
    Space(const Space&) = delete;
    Space& operator=(const Space&) = delete;

    // Before anything is charged.
    Result<> set_limit(Limit limit);
    // When what it calls goes away. Nothing may be charged or watched any more.
    void remove_limit();
    [[nodiscard]] bool limited() const { return limit_.max_bytes > 0; }
    // A sixth of the cap, at least 4 MiB, at most 256 MiB.
    [[nodiscard]] static std::uint64_t margin_of(std::uint64_t max_bytes);

    // So many bytes are about to be written; `what` for the error. When there is no room, what can be removed is
    // removed first. resource_exhausted.
    Result<> charge(std::uint64_t bytes, std::string_view what);

    // Somebody whose writes are not seen: a step in its container.
    class Watch {
    public:
        Watch(const Watch&) = delete;
        Watch& operator=(const Watch&) = delete;
        ~Watch();
        // Comes with the caller's own, or when there is no room any more.
        [[nodiscard]] Stop stop() const { return source_.get_token(); }
        // Why it was stopped, when it was for want of room.
        [[nodiscard]] std::optional<Error> refused() const;
        // How the writer is held up (true) and goes on (false); called by other threads, one at a time. Not any more
        // when this has returned with something else, an empty one for instance.
        void set_pause(std::function<void(bool)> pause);

    private:
        friend class Space;
        Watch(Space& space, std::string what, std::vector<std::string> places, const Stop& outer);
        Space& space_;
        std::string what_;
        std::vector<std::string> places_;
        std::stop_source source_;
        std::stop_callback<std::function<void()>> outer_;
        mutable Guarded<std::optional<Error>> error_;
        struct Pause {
            std::function<void(bool)> set;
            bool on = false;
        };
        Guarded<Pause> pause_;
        void pause(bool on);
        [[nodiscard]] bool can_pause() { return pause_.lock()->set != nullptr; }
        [[nodiscard]] std::uint64_t bytes() const;
        // What it has written; guarded by the list of all, together with measured_.
        struct Seen {
            std::uint64_t at_measure = 0;
            std::uint64_t bytes = 0;
            std::chrono::steady_clock::time_point at;
            std::chrono::steady_clock::duration took{};
        };
        Seen seen_;
    };
    // places: host paths of directories that it writes to. nullptr when there is no limit.
    std::unique_ptr<Watch> watch(std::string what, std::vector<std::string> places, const Stop& outer);

private:
    struct Page;
    struct Measured {
        std::chrono::steady_clock::time_point at;
        std::chrono::steady_clock::duration took{};
        std::uint64_t free_bytes = 0;  // of the file system
        std::uint64_t charged = 0;     // by then
        std::uint64_t used = 0;
    };
    Result<std::uint64_t> measure(const std::function<Result<std::uint64_t>()>& how);
    // Until `bytes` more fit; false when they do not.
    Result<bool> make_room(std::uint64_t bytes);
    [[nodiscard]] std::uint64_t limit() const { return limit_.max_bytes - margin_of(limit_.max_bytes); }
    [[nodiscard]] std::uint64_t used() const;
    [[nodiscard]] std::uint64_t free_bytes() const;
    [[nodiscard]] Error refusal(std::string_view what, std::uint64_t bytes) const;
    void guard(const Stop& stop) noexcept;
    void keep(const Stop& stop) noexcept;
    // At most so much is taken, by what the file system says and by what was seen of those who are watched: others
    // who remove files from the same file system meanwhile hide what is written.
    [[nodiscard]] std::uint64_t most_used();
    void pause_all(bool on);
    // Room is made before it is needed.
    void keep_ahead() noexcept;
    // With everybody held up; true when they may go on.
    bool settle() noexcept;
    void stop_largest();
    [[nodiscard]] std::uint64_t leaving_bytes();

    std::string root_;
    Limit limit_;
    sys::Fd dir_;
    Page* page_ = nullptr;
    Guarded<Measured> measured_;
    std::mutex making_room_;
    Guarded<std::list<Watch*>> watches_;
    // What writers that were stopped have left, until it is gone or was given time enough to go.
    struct Leaving {
        std::vector<std::string> places;
        std::chrono::steady_clock::time_point until;
    };
    Guarded<std::list<Leaving>> leaving_;
    std::atomic<bool> paused_ = false;
    std::chrono::steady_clock::time_point evicted_at_;  // of the keeper
    std::jthread guard_;
    std::jthread keeper_;
};

}  // namespace cooper::store
