#include "daemon/sessions.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/local_slots.hpp"
#include "rpc/channel.hpp"
#include "rpc/joint.hpp"
#include "rpc/message_stream.hpp"
#include "rpc/status.hpp"

#include <algorithm>
#include <grpcpp/channel.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/sync_stream.h>
#include <thread>

namespace cooper::daemon {

namespace {

constexpr std::size_t kMaxId = 256;
constexpr std::size_t kMaxMethods = 1000;
constexpr auto kLeastTimeout = std::chrono::seconds(1);

Result<SessionInfo> describe(const rpc::Metadata& metadata) {
    SessionInfo info;
    info.id = rpc::find_value(metadata, "x-docker-expose-session-uuid");
    info.shared_key = rpc::find_value(metadata, "x-docker-expose-session-sharedkey");
    if (info.id.empty()) return bad_input("session without an id: x-docker-expose-session-uuid is missing");
    if (info.id.size() > kMaxId) return bad_input("the id of a session is longer than {} bytes", kMaxId);
    for (const auto& [key, value] : metadata) {
        if (key == "x-docker-expose-session-grpc-method") info.methods.insert(to_lower(value));
    }
    if (info.methods.size() > kMaxMethods) return bad_input("a session serves more than {} methods", kMaxMethods);
    return info;
}

std::chrono::milliseconds health_timeout(const rpc::Metadata& metadata, std::chrono::milliseconds usual) {
    const auto wanted = parse_int(rpc::find_value(metadata, "x-buildkit-session-health-custom-timeout"));
    if (!wanted) return usual;
    return std::clamp<std::chrono::milliseconds>(std::chrono::milliseconds(*wanted), kLeastTimeout,
                                                 std::chrono::hours(1));
}

}  // namespace

grpc::Status Sessions::serve(grpc::ServerContext& context,
                             grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>& stream) {
    const rpc::Metadata metadata = rpc::metadata_of(context);
    auto info = describe(metadata);
    if (!info) return rpc::to_status(info.error());
    auto joint = rpc::Joint::create(rpc::carry_in_handler(context, stream));
    if (!joint) return rpc::to_status(joint.error());
    const auto session = std::make_shared<RemoteSession>(std::move(*info), rpc::channel_over((*joint)->take_socket()),
                                                         slots_, options_.scratch_dir);
    if (const auto begun = begin(session, **joint); !begun) return rpc::to_status(begun.error());
    log::debug("session began", {{"id", session->id()}});
    {
        const auto timeout = health_timeout(metadata, options_.health_timeout);
        const std::jthread health([&](const Stop& stop) { watch_health(*session, **joint, timeout, stop); });
        (*joint)->run();
    }
    end(session, **joint);
    log::debug("session ended", {{"id", session->id()}});
    return grpc::Status::OK;
}

Result<> Sessions::begin(const std::shared_ptr<RemoteSession>& session, rpc::Joint& joint) {
    auto state = state_.lock();
    if (state->closed) return fail(Code::unavailable, Blame::world, "the daemon is ending");
    if (state->joints.size() >= options_.max_sessions) {
        return fail(Code::resource_exhausted, Blame::user, "{} sessions are open, which is the limit",
                    options_.max_sessions);
    }
    // An id that is there already belongs to whoever came last; builds keep the client they have found.
    state->entries[session->id()] = {session, &joint};
    state->joints.push_back(&joint);
    state_.notify_all();
    return {};
}

void Sessions::end(const std::shared_ptr<RemoteSession>& session, rpc::Joint& joint) {
    auto state = state_.lock();
    std::erase(state->joints, &joint);
    const auto found = state->entries.find(session->id());
    if (found != state->entries.end() && found->second.joint == &joint) state->entries.erase(found);
}

void Sessions::watch_health(RemoteSession& session, rpc::Joint& joint, std::chrono::milliseconds timeout,
                            const Stop& stop) const {
    Guarded<int> never;
    int failures = 0;
    std::chrono::milliseconds last{};
    while (true) {
        static_cast<void>(never.lock().wait_for(stop, options_.health_interval, [] { return false; }));
        if (stop.stop_requested()) return;
        const auto begun = std::chrono::steady_clock::now();
        // One that was slow last time gets more time, as a machine that is busy does.
        const auto healthy = session.check_health(std::max(timeout, last * 3 / 2), stop);
        if (stop.stop_requested()) return;
        if (healthy) {
            failures = 0;
            last = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun);
            continue;
        }
        log::debug("a client does not answer", {{"session", session.id()}, {"why", healthy.error().to_string()}});
        if (++failures < 2) continue;
        joint.close();
        return;
    }
}

Result<std::shared_ptr<RemoteSession>> Sessions::find(const std::string& id, const Stop& stop) {
    const auto [before, after] = cut(id, ':');
    const std::string wanted(after && !after->empty() ? *after : std::string_view(id));
    auto state = state_.lock();
    const bool there =
        state.wait_for(stop, options_.lookup, [&] { return state->closed || state->entries.contains(wanted); });
    if (stop.stop_requested()) return cancelled();
    if (!there || state->closed) {
        return fail(Code::unavailable, Blame::world, "no active session for {}", quoted(wanted))
            .with_detail(SessionLost{wanted});
    }
    return state->entries.at(wanted).session;
}

std::shared_ptr<RemoteSession> Sessions::find_now(const std::string& id) {
    auto state = state_.lock();
    const auto found = state->entries.find(id);
    return found == state->entries.end() ? nullptr : found->second.session;
}

std::size_t Sessions::count() { return state_.lock()->joints.size(); }

void Sessions::close() {
    auto state = state_.lock();
    state->closed = true;
    for (rpc::Joint* joint : state->joints) joint->close();
    state_.notify_all();
}

}  // namespace cooper::daemon
