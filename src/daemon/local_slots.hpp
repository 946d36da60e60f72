// LocalSlots: directories for files that clients send, kept between builds so that the next transfer sends only what
// has changed. STATE/locals/<hash of the key>.<number>/{lock,files}.
//
// A slot is its holder's alone (flock, so that other processes and crashes are no exception). Whoever needs a key whose
// slots are all held gets a new one. Errors: of the file system. Any thread.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "sys/file_lock.hpp"
#include "sys/rooted_dir.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace cooper::daemon {

class LocalSlot {
public:
    LocalSlot(sys::FileLock lock, std::string host_path, sys::RootedDir files)
        : lock_(std::move(lock)), host_path_(std::move(host_path)), files_(std::move(files)) {}
    [[nodiscard]] const std::string& host_path() const { return host_path_; }
    [[nodiscard]] const sys::RootedDir& files() const { return files_; }

private:
    sys::FileLock lock_;
    std::string host_path_;
    sys::RootedDir files_;
};

struct LocalSlotLimits {
    std::size_t max_slots = 64;
    std::chrono::seconds max_age = std::chrono::days(7);
};

class LocalSlots {
public:
    // root: the state directory. Removes what is beyond the limits.
    static Result<std::unique_ptr<LocalSlots>> open(const std::string& root, const LocalSlotLimits& limits);

    // How room is asked for before files are written. Slots that nobody holds go when there is none.
    void set_charge(std::function<Result<>(std::uint64_t bytes)> charge) { charge_ = std::move(charge); }
    Result<> charge(std::uint64_t bytes, const Stop& stop);

    // One that was used for this key before, when one is free.
    Result<std::unique_ptr<LocalSlot>> acquire(std::string_view key, const Stop& stop);
    // Removes slots nobody holds: those not used for max_age, then the oldest beyond max_slots. How many went.
    Result<std::size_t> prune(const LocalSlotLimits& limits, const Stop& stop);

private:
    LocalSlots(std::string path, sys::RootedDir dir, const LocalSlotLimits& limits)
        : path_(std::move(path)), dir_(std::move(dir)), limits_(limits) {}
    Result<std::unique_ptr<LocalSlot>> try_slot(const std::string& name);

    std::string path_;
    sys::RootedDir dir_;
    LocalSlotLimits limits_;
    std::function<Result<>(std::uint64_t)> charge_;
};

}  // namespace cooper::daemon
