#include "daemon/frontend_process.hpp"

#include "base/text.hpp"
#include "dockerfile/convert_named.hpp"
#include "dockerfile/convert_names.hpp"
#include "engine/recorder.hpp"
#include "llb/state.hpp"
#include "oci/image_config.hpp"
#include "oci/reference.hpp"
#include "rpc/channel.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <grpcpp/impl/service_type.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>

namespace cooper::daemon {

namespace {

constexpr std::string_view kNoNetwork = "moby.buildkit.frontend.network.none";
constexpr std::string_view kFrontendCaps = "moby.buildkit.frontend.caps";

llb::Platform host_platform() {
    const oci::Platform platform = oci::host_platform();
    llb::Platform out;
    out.os = platform.os;
    out.architecture = platform.architecture;
    out.variant = platform.variant;
    return out;
}

// As the client library of frontends reads it.
std::string workers_json(const Worker& worker) {
    nlohmann::ordered_json platforms = nlohmann::ordered_json::array();
    for (const auto& platform : worker.platforms) {
        nlohmann::ordered_json one = {{"architecture", platform.architecture}, {"os", platform.os}};
        if (!platform.variant.empty()) one["variant"] = platform.variant;
        platforms.push_back(std::move(one));
    }
    nlohmann::ordered_json labels = nlohmann::ordered_json::object();
    for (const auto& [key, value] : worker.labels) labels[key] = value;
    return nlohmann::ordered_json::array({{{"ID", worker.id}, {"Labels", labels}, {"Platforms", platforms}}}).dump();
}

// "a,b+forward": what the image says it can do.
bool has_cap(const oci::ImageConfig& config, std::string_view cap) {
    const auto found = config.config.labels.find(std::string(kFrontendCaps));
    if (found == config.config.labels.end()) return false;
    for (const auto& one : split(found->second, ',')) {
        if (one.substr(0, one.find('+')) == cap) return true;
    }
    return false;
}

Result<> check_caps(const oci::ImageConfig& config, const engine::SolveCall& call) {
    std::vector<std::string> wanted;
    if (const auto caps = call.options.find("frontend.caps"); caps != call.options.end()) {
        for (const auto& one : split(caps->second, ',')) {
            // With "+forward" an old frontend may pass it on unread.
            if (!one.empty() && !one.ends_with("+forward")) wanted.push_back(one);
        }
    }
    if (!call.inputs.empty()) wanted.emplace_back("moby.buildkit.frontend.inputs");
    for (const auto& cap : wanted) {
        if (!has_cap(config, cap))
            return fail(Code::unimplemented, Blame::user, "unsupported frontend capability {}", cap);
    }
    return {};
}

class FrontendProcessHost final : public engine::FrontendHost {
public:
    explicit FrontendProcessHost(const GatewayParts& parts) : parts_(parts) {}

    Result<engine::FrontendResult> run(engine::BuildJob& job, const std::string& image, const engine::SolveCall& call,
                                       Stop stop) override {
        const llb::Platform platform = host_platform();
        const auto [config, state] = TRY(image_of(job, image, call, platform, stop));
        TRY(check_caps(config, call));

        engine::SolveCall rootfs;
        rootfs.definition = TRY(llb::marshal_definition(state, platform));
        const engine::ResultRef root = TRY(job.solve(rootfs, stop)).ref;

        engine::ContainerSpec spec;
        llb::Mount mount;
        mount.dest = "/";
        spec.mounts.push_back({mount, root});
        if (config.config.labels.contains(std::string(kNoNetwork))) spec.network = llb::NetMode::none;
        const auto container = TRY(job.start_container(std::move(spec), stop));
        return converse(job, *container, process_of(job, config, call), image, call, stop);
    }

private:
    struct FrontendImage {
        oci::ImageConfig config;
        llb::State state;
    };

    // Of the registry, or of the named context that takes its place.
    static Result<FrontendImage> image_of(engine::BuildJob& job, const std::string& image,
                                          const engine::SolveCall& call, const llb::Platform& platform,
                                          const Stop& stop) {
        dockerfile::ConvertOptions contexts{.inputs = call.inputs, .session_id = job.session().id()};
        for (const auto& [key, value] : call.options) {
            if (key.starts_with("context:")) contexts.named_contexts[key.substr(8)] = value;
        }
        const auto named =
            TRY(dockerfile::find_named_context(contexts, image, dockerfile::from_llb_platform(platform)));
        if (named) {
            auto loaded = TRY(dockerfile::load_named_context(*named, contexts, nullptr, job.bridge(), stop));
            return FrontendImage{loaded.image.value_or(oci::ImageConfig{}), std::move(loaded.state)};
        }
        const auto mode = call.options.find("image-resolve-mode");
        const auto resolved = TRY(job.bridge().resolve_image_config(
            TRY(oci::Reference::parse_normalized(image)).canonical(), platform,
            mode != call.options.end() && mode->second == "pull" ? frontend::ResolveMode::pull
                                                                 : frontend::ResolveMode::standard,
            "resolve image config for docker-image://" + image, stop));
        auto config = TRY_CONTEXT(oci::parse_image_config(resolved.config_json), "frontend {}", image);
        const std::string pinned = resolved.reference.contains('@')
                                       ? resolved.reference
                                       : resolved.reference + "@" + resolved.digest.to_string();
        llb::ImageOptions options;
        options.record_type = "frontend";
        options.constraints.platform = platform;
        return FrontendImage{std::move(config), llb::image(pinned, std::move(options))};
    }

    engine::ContainerProcess process_of(engine::BuildJob& job, const oci::ImageConfig& config,
                                        const engine::SolveCall& call) const {
        engine::ContainerProcess process;
        process.meta.args = config.config.entrypoint;
        if (process.meta.args.empty()) process.meta.args = {"/run"};
        process.meta.cwd = config.config.working_dir.empty() ? "/" : config.config.working_dir;
        process.meta.env = config.config.env;
        std::size_t number = 0;
        for (const auto& [key, value] : call.options)
            process.meta.env.push_back(fmt::format("BUILDKIT_FRONTEND_OPT_{}={}={}", number++, key, value));
        process.meta.env.push_back("BUILDKIT_SESSION_ID=" + job.session().id());
        process.meta.env.push_back("BUILDKIT_WORKERS=" + workers_json(parts_.worker));
        process.meta.env.emplace_back("BUILDKIT_EXPORTEDPRODUCT=cooper");
        return process;
    }

    Result<engine::FrontendResult> converse(engine::BuildJob& job, engine::Container& container,
                                            engine::ContainerProcess process, const std::string& image,
                                            const engine::SolveCall& call, const Stop& stop) {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
            return fail_errno(errno, "socket pair of a frontend");
        sys::Fd ours(ends[0]);
        sys::Fd theirs(ends[1]);
        auto conversation = std::make_shared<Conversation>(job, call.inputs);
        const auto service = make_gateway(parts_, conversation);
        const auto server = TRY(rpc::StreamServer::start({service.get()}));
        server->add(std::move(ours));

        engine::Activity activity(job.progress(), job.clock(), "frontend " + image);
        process.streams.stdin_fd = theirs.get();
        process.streams.stdout_fd = theirs.get();
        process.streams.output = [&](int stream, std::string_view text) {
            activity.progress().log(stream, std::string(text));
        };
        const auto exit = container.run(process, stop);
        theirs = sys::Fd();
        server->shutdown(std::chrono::seconds(1));
        auto answer = conversation->answered();
        if (!exit) {
            activity.fail(exit.error());
            return exit.error().with_context("frontend " + image);
        }
        if (answer && !*answer) {
            activity.fail((*answer).error());
            return *answer;
        }
        if (!answer || exit->code != 0) {
            const Error error = fail(Code::unknown, Blame::user, "the frontend {} ended with exit code {}{}", image,
                                     exit->code, answer ? "" : " and gave no result");
            activity.fail(error);
            return error;
        }
        activity.done();
        return *answer;
    }

    GatewayParts parts_;
};

}  // namespace

std::unique_ptr<engine::FrontendHost> make_frontend_process_host(const GatewayParts& parts) {
    return std::make_unique<FrontendProcessHost>(parts);
}

}  // namespace cooper::daemon
