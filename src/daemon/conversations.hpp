// Conversation: a build that somebody holds over the gateway: the client itself, or a frontend that runs as
// a program. Results have ids in it; one answer ends it. Conversations: those that are going on, by the
// ref of their build.
// Any thread.
#pragma once

#include "base/guarded.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "engine/build_job.hpp"
#include "llb/definition.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace cooper::daemon {

// A container and what runs in it. The first process is its init: when that ends the others are ended.
class LiveContainer {
public:
    explicit LiveContainer(std::unique_ptr<engine::Container> container) : container_(std::move(container)) {}
    // Runs it to its end; the stop of the call, of the container, or of its init ends it.
    Result<ExitStatus> run(const engine::ContainerProcess& process, const Stop& stop);
    [[nodiscard]] engine::Container& container() { return *container_; }
    void end() { ended_.request_stop(); }

private:
    std::unique_ptr<engine::Container> container_;
    StopSource ended_;
    Guarded<bool> has_init_;
};

class Conversation {
public:
    // The job outlives it.
    Conversation(engine::BuildJob& job, std::map<std::string, llb::Definition> inputs)
        : job_(job), inputs_(std::move(inputs)) {}

    [[nodiscard]] engine::BuildJob& job() { return job_; }
    [[nodiscard]] const std::map<std::string, llb::Definition>& inputs() const { return inputs_; }

    // The id under which the other side names a result from now on; empty for scratch.
    std::string keep(const engine::ResultRef& ref);
    Result<engine::ResultRef> find(const std::string& id);

    // Containers that the other side started, by the ids that it chose. They end with the conversation.
    Result<> add_container(const std::string& id, std::unique_ptr<engine::Container> container);
    Result<std::shared_ptr<LiveContainer>> find_container(const std::string& id);
    // Ends its processes.
    Result<> release_container(const std::string& id);

    // The second answer is an error; the first stays.
    Result<> answer(Result<engine::FrontendResult> result);
    Result<engine::FrontendResult> wait(const Stop& stop);
    // nullopt: nothing was answered yet.
    std::optional<Result<engine::FrontendResult>> answered();

private:
    struct State {
        std::map<std::string, engine::ResultRef> refs;
        std::uint64_t next = 1;
        std::map<std::string, std::shared_ptr<LiveContainer>> containers;
        std::optional<Result<engine::FrontendResult>> answer;
    };
    engine::BuildJob& job_;
    std::map<std::string, llb::Definition> inputs_;
    Guarded<State> state_;
};

class Conversations {
public:
    // As long as it lives the conversation can be found.
    class Entry {
    public:
        Entry(Conversations& owner, std::string ref, std::shared_ptr<Conversation> conversation);
        Entry(const Entry&) = delete;
        Entry& operator=(const Entry&) = delete;
        // Waits for calls that are using it.
        ~Entry();

    private:
        Conversations& owner_;
        std::string ref_;
        std::weak_ptr<Conversation> conversation_;
    };

    // Waits a moment: clients ask before their build has begun. not_found.
    Result<std::shared_ptr<Conversation>> find(const std::string& ref, std::chrono::milliseconds wait,
                                               const Stop& stop);

private:
    Guarded<std::map<std::string, std::shared_ptr<Conversation>>> entries_;
};

}  // namespace cooper::daemon
