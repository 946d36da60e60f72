#include "daemon/server.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "daemon/control.hpp"
#include "daemon/listener.hpp"
#include "daemon/local_slots.hpp"
#include "daemon/sessions.hpp"
#include "daemon/tls_gate.hpp"
#include "engine/engine.hpp"
#include "rpc/channel.hpp"
#include "rpc/message_stream.hpp"
#include "sys/file_lock.hpp"

#include <cerrno>
#include <fcntl.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/resource_quota.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::daemon {

namespace {

// Each running call has one; a client of a build has three.
constexpr int kMaxThreads = 4000;
constexpr int kWindowBytes = 4 << 20;
// For steps to end that were told to stop, and for answers to reach their clients.
constexpr auto kPatience = std::chrono::seconds(20);
constexpr auto kLastWords = std::chrono::milliseconds(500);

// One daemon for each state directory; programs that build by themselves may share it.
Result<sys::FileLock> lock_root(const std::string& folder, const std::string& root) {
    const std::string path = folder + "/lock";
    auto lock = TRY(sys::FileLock::try_acquire(path, sys::LockMode::exclusive));
    if (!lock) {
        const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        const auto owner = sys::read_to_end(file.get(), 4096);
        return fail(Code::already_exists, Blame::user, "the state directory {} is served already{}", root,
                    owner && !owner->empty() ? " by " + std::string(trim(*owner)) : "")
            .with_hint("end that daemon, or choose another --root");
    }
    const sys::Fd file(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    if (file.valid()) static_cast<void>(sys::write_all(file.get(), fmt::format("cooperd, process {}\n", ::getpid())));
    return std::move(*lock);
}

using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

}  // namespace

// In the order in which they are needed; destruction goes the other way.
struct Server::Parts {
    ServerOptions options;
    SystemClock clock;
    sys::FileLock lock;
    Worker worker;
    std::unique_ptr<engine::Engine> engine;
    std::unique_ptr<LocalSlots> slots;
    std::unique_ptr<Sessions> sessions;
    std::unique_ptr<History> history;
    std::unique_ptr<ProgressHub> hub;
    std::unique_ptr<CallWatcher> calls;
    Counters counters;
    std::unique_ptr<SolveService> solve;
    std::unique_ptr<Collector> collector;
    std::vector<std::unique_ptr<grpc::Service>> services;
    std::unique_ptr<Acceptor> acceptor;
    std::unique_ptr<grpc::Server> server;
    std::unique_ptr<TlsGate> tls;
    std::unique_ptr<DebugServer> debug;
    std::vector<std::unique_ptr<Listener>> listeners;
};

Result<std::unique_ptr<Server>> Server::start(ServerOptions options) {
    rpc::start_library();
    auto server = std::unique_ptr<Server>(new Server);
    server->parts_ = std::make_unique<Parts>();
    Parts& parts = *server->parts_;
    parts.options = std::move(options);
    const ServerOptions& chosen = parts.options;

    // Sockets last: whoever can connect is served.
    const bool with_tls = !chosen.tls.certificate.empty() || !chosen.tls.key.empty() || !chosen.tls.client_ca.empty();
    if (with_tls) parts.tls = TRY(TlsGate::create(chosen.tls));
    engine::Config config = chosen.config;
    if (!chosen.gc || !chosen.gc_policies.empty()) config.gc.enabled = false;
    parts.engine = TRY(engine::Engine::open(chosen.root, config));
    const std::string folder = chosen.root + "/daemon";
    for (const std::string& path : {folder, chosen.root + "/history"}) {
        if (::mkdir(path.c_str(), 0711) != 0 && errno != EEXIST) return fail_errno(errno, "create " + path);
    }
    parts.lock = TRY(lock_root(folder, chosen.root));
    parts.worker.id = TRY(worker_id(folder + "/worker-id"));
    parts.worker.labels = worker_labels(chosen.labels);
    parts.worker.platforms =
        chosen.platforms.empty() ? worker_platforms(parts.engine->emulated_architectures()) : chosen.platforms;
    if (chosen.gc) parts.worker.gc = chosen.gc_policies;
    if (chosen.gc && chosen.gc_policies.empty()) parts.worker.gc = {default_policy(chosen.root, config.gc)};
    parts.slots = TRY(LocalSlots::open(chosen.root, {}));
    parts.slots->set_charge(
        [&engine = *parts.engine](std::uint64_t bytes) { return engine.charge_space(bytes, "files of a client"); });
    parts.sessions = std::make_unique<Sessions>(*parts.slots, SessionsOptions{.scratch_dir = folder});
    parts.history = TRY(History::open(chosen.root + "/history", parts.clock, chosen.history));
    parts.hub = std::make_unique<ProgressHub>(folder, parts.clock, chosen.log_limits);
    parts.calls = std::make_unique<CallWatcher>();
    parts.collector =
        std::make_unique<Collector>(*parts.engine, chosen.gc ? chosen.gc_policies : std::vector<GcPolicy>());

    parts.solve = make_solve_service({.engine = *parts.engine,
                                      .sessions = *parts.sessions,
                                      .history = *parts.history,
                                      .clock = parts.clock,
                                      .worker = parts.worker,
                                      .allowed_entitlements = chosen.allowed_entitlements});

    parts.services.push_back(make_control_service({.engine = *parts.engine,
                                                   .sessions = *parts.sessions,
                                                   .hub = *parts.hub,
                                                   .history = *parts.history,
                                                   .solve = *parts.solve,
                                                   .calls = *parts.calls,
                                                   .collector = *parts.collector,
                                                   .counters = parts.counters,
                                                   .worker = parts.worker,
                                                   .clock = parts.clock}));
    parts.services.push_back(make_content_service(*parts.history, *parts.engine));
    parts.services.push_back(make_trace_service(trace_endpoint_of_environment()));
    parts.services.push_back(rpc::make_health_service());

    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    builder.SetMaxReceiveMessageSize(rpc::kMaxMessageBytes);
    builder.SetMaxSendMessageSize(rpc::kMaxMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, rpc::kMaxMetadataBytes);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
    grpc::ResourceQuota quota("cooperd");
    quota.SetMaxThreads(kMaxThreads);
    builder.SetResourceQuota(quota);
    using Kind = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
    parts.acceptor =
        builder.experimental().AddExternalConnectionAcceptor(Kind::FROM_FD, grpc::InsecureServerCredentials());
    for (const auto& service : parts.services) builder.RegisterService(service.get());
    for (grpc::Service* service : parts.solve->services()) builder.RegisterService(service);
    parts.server = builder.BuildAndStart();
    if (parts.server == nullptr) return fail(Code::internal, Blame::cooper, "gRPC refuses to serve");

    if (!chosen.debug_address.empty()) {
        auto socket = TRY(listen_for_debug(chosen.debug_address));
        parts.debug = std::make_unique<DebugServer>(std::move(socket), *parts.hub, *parts.calls, parts.counters);
    }
    std::vector<ListeningSocket> sockets;
    for (const auto& address : chosen.addresses) {
        auto some = TRY(listen_at(address, {.uid = chosen.socket_uid, .gid = chosen.socket_gid}));
        for (auto& socket : some) sockets.push_back(std::move(socket));
    }
    for (auto& socket : sockets) {
        TlsGate* tls = socket.is_unix ? nullptr : parts.tls.get();
        if (!socket.is_unix && tls == nullptr)
            log::warn("whoever reaches this address may use the daemon: TLS is off", {{"address", socket.address}});
        log::info("serving", {{"address", socket.address}});
        const auto serve = [acceptor = parts.acceptor.get()](sys::Fd client) {
            Acceptor::NewConnectionParameters connection;
            connection.listener_fd = -1;
            connection.fd = client.release();
            acceptor->HandleNewConnection(&connection);
        };
        parts.listeners.push_back(std::make_unique<Listener>(std::move(socket), [tls, serve](sys::Fd client) {
            if (tls == nullptr) return serve(std::move(client));
            tls->take(std::move(client), serve);
        }));
    }
    return server;
}

void Server::cancel_builds() { impatient_ = true; }

void Server::shutdown(std::chrono::milliseconds grace) {
    if (parts_ == nullptr) return;
    Parts& parts = *parts_;
    parts.listeners.clear();
    if (parts.server != nullptr) {
        const auto deadline = std::chrono::steady_clock::now() + grace;
        while (parts.hub->open_builds() > 0 && !impatient_ && std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        // Builds are told to stop before their calls are broken, so that clients hear of it.
        parts.calls->stop_all();
        while (parts.hub->open_builds() > 0 && std::chrono::steady_clock::now() < deadline + kPatience)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        parts.sessions->close();
        parts.server->Shutdown(std::chrono::system_clock::now() + kLastWords);
        parts.server->Wait();
    }
    parts_.reset();
}

Server::~Server() { shutdown({}); }

}  // namespace cooper::daemon
