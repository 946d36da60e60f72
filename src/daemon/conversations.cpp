#include "daemon/conversations.hpp"

#include "base/text.hpp"

#include <thread>

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
