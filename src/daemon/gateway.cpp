#include "daemon/gateway.hpp"

#include "base/text.hpp"
#include "codec/path_match.hpp"
#include "daemon/call_watcher.hpp"
#include "daemon/detail/exec_stream.hpp"
#include "daemon/usage.hpp"
#include "daemon/wire.hpp"
#include "filesync/packet.hpp"
#include "llb/marshal.hpp"
#include "oci/reference.hpp"
#include "proto/gateway.grpc.pb.h"
#include "rpc/message_stream.hpp"
#include "rpc/status.hpp"

#include <algorithm>
#include <grpcpp/server_context.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace cooper::daemon {

namespace {

namespace wire = moby::buildkit::v1::frontend;

const std::string kImages = "docker-image://";
constexpr std::string_view kBuildId = "buildkit-controlapi-buildid";
constexpr std::chrono::seconds kLookup{3};
// Of a message of 16 MiB.
constexpr std::int64_t kMaxRead = 15 << 20;
constexpr std::size_t kMaxEntries = 100'000;

filesync::Stat stat_of(const std::string& path, const snapshot::Node& node) {
    filesync::Stat stat;
    stat.path = path;
    stat.mode = filesync::to_go_mode(node.kind, node.mode);
    stat.uid = node.uid;
    stat.gid = node.gid;
    stat.mtime_ns = node.mtime_ns;
    if (node.kind == snapshot::Kind::file || node.kind == snapshot::Kind::symlink)
        stat.size = static_cast<std::int64_t>(node.size);
    if (node.kind == snapshot::Kind::char_device || node.kind == snapshot::Kind::block_device) {
        stat.devmajor = static_cast<std::int64_t>(major(node.rdev));
        stat.devminor = static_cast<std::int64_t>(minor(node.rdev));
    }
    return stat;
}

Error not_there(const std::string& path) {
    return fail(Code::not_found, Blame::user, "{}: no such file or directory", path.empty() ? "/" : path);
}

Result<std::string> read_range(const snapshot::Tree& tree, const std::string& path, std::int64_t offset,
                               std::int64_t length) {
    if (offset < 0 || length < 0) return bad_input("invalid range of a file: {} bytes from {}", length, offset);
    const auto found = TRY(tree.find(path, snapshot::FollowLast::yes));
    if (!found) return not_there(path);
    if (found->node.kind != snapshot::Kind::file) {
        return bad_input("{} is a {}, not a file", path, snapshot::kind_name(found->node.kind));
    }
    const auto size = static_cast<std::int64_t>(found->node.size);
    const std::int64_t rest = std::max<std::int64_t>(0, size - offset);
    const std::int64_t wanted = length == 0 ? rest : std::min(rest, length);
    if (wanted > kMaxRead) {
        return fail(Code::resource_exhausted, Blame::user, "{} bytes of {} do not fit into one message", wanted, path)
            .with_hint("read it in ranges");
    }
    const sys::Fd file = TRY(found->parent->open_file(found->name, found->node));
    std::string data(static_cast<std::size_t>(wanted), '\0');
    std::size_t have = 0;
    while (have < data.size()) {
        const ssize_t got = ::pread(file.get(), data.data() + have, data.size() - have,
                                    static_cast<off_t>(offset) + static_cast<off_t>(have));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(errno, path);
        if (got == 0) break;
        have += static_cast<std::size_t>(got);
    }
    data.resize(have);
    return data;
}

Result<std::vector<filesync::Stat>> read_dir(const snapshot::Tree& tree, const std::string& path,
                                             const std::string& pattern) {
    const auto found = TRY(tree.find(path, snapshot::FollowLast::yes));
    if (!found) return not_there(path);
    if (found->node.kind != snapshot::Kind::directory) return bad_input("{} is not a directory", path);
    const auto directory = TRY(tree.open_dir(*found));
    std::vector<filesync::Stat> out;
    for (const auto& entry : TRY(directory->list())) {
        if (!pattern.empty()) {
            const auto matches = codec::path_match(pattern, entry.name);
            if (!matches) return matches.error();
            if (!*matches) continue;
        }
        if (entry.kind == snapshot::Kind::socket) continue;
        if (out.size() == kMaxEntries)
            return fail(Code::resource_exhausted, Blame::user, "{} has more than {} entries", path, kMaxEntries);
        const snapshot::Node node = TRY(directory->stat(entry));
        filesync::Stat stat = stat_of(entry.name, node);
        if (node.kind == snapshot::Kind::symlink) stat.linkname = TRY(directory->read_link(entry.name, node));
        out.push_back(std::move(stat));
    }
    return out;
}

Result<filesync::Stat> stat_path(const snapshot::Tree& tree, const std::string& path) {
    const auto found = TRY(tree.find(path, snapshot::FollowLast::yes));
    if (!found) return not_there(path);
    return stat_of(found->path.substr(found->path.rfind('/') + 1), found->node);
}

class Gateway final : public wire::LLBBridge::Service {
public:
    Gateway(const GatewayParts& parts, std::shared_ptr<Conversation> conversation)
        : parts_(parts), conversation_(std::move(conversation)) {}

    grpc::Status Ping(grpc::ServerContext* /*context*/, const wire::PingRequest* /*request*/,
                      wire::PongResponse* response) override {
        const auto list = [](const std::vector<std::string>& ids, auto* out) {
            for (const auto& id : ids) {
                auto* cap = out->Add();
                cap->set_id(id);
                cap->set_enabled(true);
            }
        };
        list(gateway_capabilities(), response->mutable_frontendapicaps());
        list(llb_capabilities(), response->mutable_llbcaps());
        put_worker(parts_.worker, *response->add_workers());
        return grpc::Status::OK;
    }

    grpc::Status Solve(grpc::ServerContext* context, const wire::SolveRequest* request,
                       wire::SolveResponse* response) override {
        const auto solve = [&](Conversation& conversation, const Stop& stop) -> Result<> {
            engine::SolveCall call;
            call.frontend = request->frontend();
            call.evaluate = request->evaluate();
            if (call.frontend.empty()) call.definition = TRY(llb::parse_definition(request->definition()));
            for (const auto& [key, value] : request->frontendopt()) call.options[key] = value;
            for (const auto& [name, bytes] : request->frontendinputs())
                call.inputs[name] = TRY(llb::parse_definition(bytes));
            for (const auto& cache : request->cacheimports())
                call.cache_imports.push_back({cache.type(), {cache.attrs().begin(), cache.attrs().end()}});
            call.policies = TRY(from_messages(request->sourcepolicies()));
            const engine::FrontendResult result = TRY(conversation.job().solve(call, stop));
            if (request->allowresultreturn()) {
                to_message(result, conversation, *response->mutable_result());
                return {};
            }
            if (!result.single) return bad_input("this client does not take a result of several platforms");
            response->set_ref(conversation.keep(result.ref));
            return {};
        };
        const auto question = request->frontendopt().find("requestid");
        const std::string id = question == request->frontendopt().end() ? "" : question->second;
        return serve(*context, solve, [&](const Error& error) { return call_status(error, id); });
    }

    grpc::Status Evaluate(grpc::ServerContext* context, const wire::EvaluateRequest* request,
                          wire::EvaluateResponse* /*response*/) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            return conversation.job().evaluate(TRY(conversation.find(request->ref())), stop);
        });
    }

    grpc::Status ReadFile(grpc::ServerContext* context, const wire::ReadFileRequest* request,
                          wire::ReadFileResponse* response) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            const auto tree = TRY(conversation.job().tree(TRY(conversation.find(request->ref())), stop));
            response->set_data(
                TRY(read_range(*tree, request->filepath(), request->range().offset(), request->range().length())));
            return {};
        });
    }

    grpc::Status ReadDir(grpc::ServerContext* context, const wire::ReadDirRequest* request,
                         wire::ReadDirResponse* response) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            const auto tree = TRY(conversation.job().tree(TRY(conversation.find(request->ref())), stop));
            for (const auto& stat : TRY(read_dir(*tree, request->dirpath(), request->includepattern())))
                to_message(stat, *response->add_entries());
            return {};
        });
    }

    grpc::Status StatFile(grpc::ServerContext* context, const wire::StatFileRequest* request,
                          wire::StatFileResponse* response) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            const auto tree = TRY(conversation.job().tree(TRY(conversation.find(request->ref())), stop));
            to_message(TRY(stat_path(*tree, request->path())), *response->mutable_stat());
            return {};
        });
    }

    grpc::Status ResolveImageConfig(grpc::ServerContext* context, const wire::ResolveImageConfigRequest* request,
                                    wire::ResolveImageConfigResponse* response) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            const auto policies = TRY(from_messages(request->sourcepolicies()));
            std::string reference = request->ref();
            if (request->resolvertype() != 1 && !policies.empty()) {
                llb::SourceOp source{
                    .identifier = kImages + TRY(oci::Reference::parse_normalized(reference)).canonical(), .attrs = {}};
                TRY_CONTEXT(policies.apply(source), "could not resolve image due to policy");
                if (!source.identifier.starts_with(kImages))
                    return bad_input("a policy makes {} of the image {}", quoted(source.identifier), reference);
                reference = source.identifier.substr(kImages.size());
            }
            const Asked asked{.reference = reference,
                              .platform = request->has_platform() ? from_message(request->platform()) : host(),
                              .mode = request->resolvemode(),
                              .log_name = request->logname(),
                              .layout = request->resolvertype() == 1,
                              .session_id = request->sessionid(),
                              .store_id = request->storeid()};
            const auto image = TRY(resolve(conversation, asked, stop));
            response->set_digest(image.digest.to_string());
            response->set_config(image.config_json);
            response->set_ref(image.reference);
            return {};
        });
    }

    grpc::Status ResolveSourceMeta(grpc::ServerContext* context, const wire::ResolveSourceMetaRequest* request,
                                   wire::ResolveSourceMetaResponse* response) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            llb::SourceOp source = from_message(request->source());
            const llb::Platform platform = request->has_platform() ? from_message(request->platform()) : host();
            if (source.identifier.starts_with(kImages)) {
                const auto reference = TRY(oci::Reference::parse_normalized(source.identifier.substr(kImages.size())));
                source.identifier = kImages + reference.canonical();
            }
            TRY_CONTEXT(
                conversation.job().permit(source, platform, TRY(from_messages(request->sourcepolicies())), stop),
                "could not resolve source due to policy");
            to_message(source, *response->mutable_source());
            const std::string& id = source.identifier;
            const bool layout = id.starts_with("oci-layout://");
            if (id.starts_with(kImages) || layout) {
                const auto attribute = [&](const char* key) {
                    const auto found = source.attrs.find(key);
                    return found == source.attrs.end() ? std::string() : found->second;
                };
                const Asked asked{.reference = id.substr(id.find("://") + 3),
                                  .platform = platform,
                                  .mode = request->resolvemode(),
                                  .log_name = request->logname(),
                                  .layout = layout,
                                  .session_id = attribute("oci.session"),
                                  .store_id = attribute("oci.store")};
                const auto image = TRY(resolve(conversation, asked, stop));
                response->mutable_image()->set_digest(image.digest.to_string());
                if (!request->image().noconfig()) response->mutable_image()->set_config(image.config_json);
                return {};
            }
            const engine::SourceMeta meta = TRY(conversation.job().resolve_source(source, request->logname(), stop));
            to_message(id, meta, *response);
            return {};
        });
    }

    grpc::Status Inputs(grpc::ServerContext* context, const wire::InputsRequest* /*request*/,
                        wire::InputsResponse* response) override {
        return serve(*context, [&](Conversation& conversation, const Stop& /*stop*/) -> Result<> {
            for (const auto& [name, definition] : conversation.inputs())
                (*response->mutable_definitions())[name] = llb::marshal(definition);
            return {};
        });
    }

    grpc::Status Return(grpc::ServerContext* context, const wire::ReturnRequest* request,
                        wire::ReturnResponse* /*response*/) override {
        return serve(*context, [&](Conversation& conversation, const Stop& /*stop*/) -> Result<> {
            if (request->has_error() && request->error().code() != 0)
                return conversation.answer(rpc::from_message(request->error()));
            return conversation.answer(TRY(from_message(request->result(), conversation)));
        });
    }

    grpc::Status Warn(grpc::ServerContext* context, const wire::WarnRequest* request,
                      wire::WarnResponse* /*response*/) override {
        return serve(*context, [&](Conversation& conversation, const Stop& /*stop*/) -> Result<> {
            WarningEvent warning;
            warning.vertex = TRY(Digest::parse(request->digest()));
            warning.level = static_cast<int>(std::clamp<std::int64_t>(request->level(), 0, 100));
            warning.short_text = request->short_();
            warning.detail.assign(request->detail().begin(), request->detail().end());
            warning.url = request->url();
            if (!request->ranges().empty()) {
                const auto& range = request->ranges(0);
                warning.range = SourceRange{request->info().filename(), range.start().line(), range.end().line(),
                                            range.start().character(), range.end().character()};
            }
            if (request->has_info())
                warning.source = SourceText{request->info().filename(), request->info().language(),
                                            std::make_shared<const std::string>(request->info().data())};
            conversation.job().progress().emit(std::move(warning));
            return {};
        });
    }

    grpc::Status NewContainer(grpc::ServerContext* context, const wire::NewContainerRequest* request,
                              wire::NewContainerResponse* /*response*/) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            if (request->containerid().empty()) return bad_input("a container needs an id");
            pb::Op op;
            op.mutable_exec()->mutable_meta()->add_args("-");
            op.mutable_exec()->set_network(request->network());
            *op.mutable_exec()->mutable_mounts() = request->mounts();
            *op.mutable_exec()->mutable_meta()->mutable_extrahosts() = request->extrahosts();
            const llb::Op parsed = TRY(llb::parse_op(op.SerializeAsString()));
            const auto* exec = std::get_if<llb::ExecOp>(&parsed.body);
            if (exec == nullptr || exec->mounts.size() != static_cast<std::size_t>(request->mounts_size()))
                return bad_input("the mounts of container {} cannot be read", quoted(request->containerid()));
            engine::ContainerSpec spec;
            spec.network = exec->network;
            spec.extra_hosts = exec->meta.extra_hosts;
            spec.hostname = request->hostname();
            bool has_root = false;
            for (int i = 0; i < request->mounts_size(); ++i) {
                const auto& mount = request->mounts(i);
                has_root = has_root || mount.dest() == "/";
                spec.mounts.push_back(
                    {exec->mounts[static_cast<std::size_t>(i)], TRY(conversation.find(mount.resultid()))});
            }
            if (!has_root) return bad_input("container {} has no root", quoted(request->containerid()));
            return conversation.add_container(request->containerid(),
                                              TRY(conversation.job().start_container(std::move(spec), stop)));
        });
    }

    grpc::Status ReleaseContainer(grpc::ServerContext* context, const wire::ReleaseContainerRequest* request,
                                  wire::ReleaseContainerResponse* /*response*/) override {
        return serve(*context, [&](Conversation& conversation, const Stop& /*stop*/) {
            return conversation.release_container(request->containerid());
        });
    }

    grpc::Status ExecProcess(grpc::ServerContext* context,
                             grpc::ServerReaderWriter<wire::ExecMessage, wire::ExecMessage>* messages) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) {
            return detail::ExecStream(conversation, *messages).serve(stop);
        });
    }

    grpc::Status ReadFileContainer(grpc::ServerContext* context, const wire::ReadFileRequest* request,
                                   wire::ReadFileResponse* response) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            const auto tree = TRY(tree_of(conversation, request->ref(), request->mountindex(), stop));
            response->set_data(
                TRY(read_range(*tree, request->filepath(), request->range().offset(), request->range().length())));
            return {};
        });
    }

    grpc::Status ReadDirContainer(grpc::ServerContext* context, const wire::ReadDirRequest* request,
                                  wire::ReadDirResponse* response) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            const auto tree = TRY(tree_of(conversation, request->ref(), request->mountindex(), stop));
            for (const auto& stat : TRY(read_dir(*tree, request->dirpath(), request->includepattern())))
                to_message(stat, *response->add_entries());
            return {};
        });
    }

    grpc::Status StatFileContainer(grpc::ServerContext* context, const wire::StatFileRequest* request,
                                   wire::StatFileResponse* response) override {
        return serve(*context, [&](Conversation& conversation, const Stop& stop) -> Result<> {
            const auto tree = TRY(tree_of(conversation, request->ref(), request->mountindex(), stop));
            to_message(TRY(stat_path(*tree, request->path())), *response->mutable_stat());
            return {};
        });
    }

private:
    static Result<snapshot::TreeRef> tree_of(Conversation& conversation, const std::string& container, int mount,
                                             const Stop& stop) {
        if (mount < 0) return bad_input("invalid mount index {}", mount);
        const auto live = TRY(conversation.find_container(container));
        return live->container().tree(static_cast<std::size_t>(mount), stop);
    }

    struct Asked {
        std::string reference;
        llb::Platform platform;
        std::string mode;
        std::string log_name;
        bool layout = false;
        std::string session_id;
        std::string store_id;
    };

    llb::Platform host() const {
        const oci::Platform platform = oci::host_platform();
        llb::Platform out;
        out.os = platform.os;
        out.architecture = platform.architecture;
        out.variant = platform.variant;
        return out;
    }

    static Result<frontend::ResolvedImage> resolve(Conversation& conversation, const Asked& asked, const Stop& stop) {
        const std::string log_name =
            asked.log_name.empty() ? "resolve image config for " + asked.reference : asked.log_name;
        frontend::Bridge& bridge = conversation.job().bridge();
        if (asked.layout) {
            return bridge.resolve_oci_layout({asked.reference, asked.store_id, asked.session_id}, asked.platform,
                                             log_name, stop);
        }
        const auto reference = TRY(oci::Reference::parse_normalized(asked.reference));
        return bridge.resolve_image_config(reference.canonical(), asked.platform, to_resolve_mode(asked.mode), log_name,
                                           stop);
    }

    Result<std::shared_ptr<Conversation>> conversation_of(const grpc::ServerContext& context, const Stop& stop) {
        if (conversation_ != nullptr) return conversation_;
        const auto& metadata = context.client_metadata();
        const auto found = metadata.find(grpc::string_ref(kBuildId.data(), kBuildId.size()));
        if (found == metadata.end()) return bad_input("the call does not say which build it is about");
        return parts_.conversations.find(std::string(found->second.data(), found->second.size()), kLookup, stop);
    }

    template <class Work>
    grpc::Status serve(grpc::ServerContext& context, Work work) {
        return serve(context, work, [](const Error& error) { return rpc::to_status(error); });
    }
    template <class Work, class ToStatus>
    grpc::Status serve(grpc::ServerContext& context, Work work, ToStatus to_status) {
        const CallWatcher::Watch watch(parts_.watcher, context);
        const Stop stop = watch.stop();
        const auto conversation = conversation_of(context, stop);
        if (!conversation) return rpc::to_status(conversation.error());
        const Result<> done = work(**conversation, stop);
        return done ? grpc::Status::OK : to_status(done.error());
    }

    GatewayParts parts_;
    std::shared_ptr<Conversation> conversation_;  // null: found by the call's metadata
};

}  // namespace

std::unique_ptr<grpc::Service> make_gateway(const GatewayParts& parts) {
    return std::make_unique<Gateway>(parts, nullptr);
}

std::unique_ptr<grpc::Service> make_gateway(const GatewayParts& parts, std::shared_ptr<Conversation> conversation) {
    return std::make_unique<Gateway>(parts, std::move(conversation));
}

}  // namespace cooper::daemon
