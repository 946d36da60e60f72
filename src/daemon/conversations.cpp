#include "daemon/conversations.hpp"

#include "base/text.hpp"

#include <stop_token>
#include <thread>
#include <utility>

namespace cooper::daemon {

std::string Conversation::keep(const engine::ResultRef& ref) {
    if (ref == nullptr) return {};
    auto state = state_.lock();
    std::string id = fmt::format("{}:{}", job_.ref(), state->next++);
    state->refs.emplace(id, ref);
    return id;
}

Result<engine::ResultRef> Conversation::find(const std::string& id) {
    if (id.empty()) return engine::ResultRef{};
    auto state = state_.lock();
    const auto found = state->refs.find(id);
    if (found == state->refs.end()) return fail(Code::not_found, Blame::user, "no such ref: {}", quoted(id));
    return found->second;
}

Result<ExitStatus> LiveContainer::run(const engine::ContainerProcess& process, const Stop& stop) {
    bool is_init = false;
    {
        auto has_init = has_init_.lock();
        is_init = !std::exchange(*has_init, true);
    }
    StopSource both;
    const auto pass_on = [&] { both.request_stop(); };
    const std::stop_callback of_call(stop, pass_on);
    const std::stop_callback of_container(ended_.get_token(), pass_on);
    auto exit = container_->run(process, both.get_token());
    if (is_init) end();
    return exit;
}

Result<> Conversation::add_container(const std::string& id, std::unique_ptr<engine::Container> container) {
    auto state = state_.lock();
    if (state->containers.size() >= 64)
        return fail(Code::resource_exhausted, Blame::user, "64 containers of this build are running already");
    if (!state->containers.try_emplace(id, std::make_shared<LiveContainer>(std::move(container))).second)
        return fail(Code::already_exists, Blame::user, "there is a container {} already", quoted(id));
    return {};
}

Result<std::shared_ptr<LiveContainer>> Conversation::find_container(const std::string& id) {
    auto state = state_.lock();
    const auto found = state->containers.find(id);
    if (found == state->containers.end())
        return fail(Code::not_found, Blame::user, "no container {} was created", quoted(id));
    return found->second;
}

Result<> Conversation::release_container(const std::string& id) {
    std::shared_ptr<LiveContainer> container;
    {
        auto state = state_.lock();
        const auto found = state->containers.find(id);
        if (found == state->containers.end())
            return fail(Code::not_found, Blame::user, "no container {} was created", quoted(id));
        container = std::move(found->second);
        state->containers.erase(found);
    }
    container->end();
    return {};
}

Result<> Conversation::answer(Result<engine::FrontendResult> result) {
    {
        auto state = state_.lock();
        if (state->answer) return fail(Code::failed_precondition, Blame::user, "the build has been answered already");
        state->answer = std::move(result);
    }
    state_.notify_all();
    return {};
}

Result<engine::FrontendResult> Conversation::wait(const Stop& stop) {
    auto state = state_.lock();
    if (!state.wait(stop, [&] { return state->answer.has_value(); })) return cancelled();
    return *state->answer;
}

std::optional<Result<engine::FrontendResult>> Conversation::answered() { return state_.lock()->answer; }

Conversations::Entry::Entry(Conversations& owner, std::string ref, std::shared_ptr<Conversation> conversation)
    : owner_(owner), ref_(std::move(ref)), conversation_(conversation) {
    (*owner_.entries_.lock())[ref_] = std::move(conversation);
    owner_.entries_.notify_all();
}

Conversations::Entry::~Entry() {
    owner_.entries_.lock()->erase(ref_);
    // Calls hold it for as long as they last, and they end when their client or the build does.
    while (!conversation_.expired()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

Result<std::shared_ptr<Conversation>> Conversations::find(const std::string& ref, std::chrono::milliseconds wait,
                                                          const Stop& stop) {
    auto entries = entries_.lock();
    const auto is_there = [&] { return entries->contains(ref); };
    if (!entries.wait_for(stop, wait, is_there)) {
        if (stop.stop_requested()) return cancelled();
        return fail(Code::not_found, Blame::user, "no such job {}", ref);
    }
    return entries->at(ref);
}

}  // namespace cooper::daemon
