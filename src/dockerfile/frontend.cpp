#include "dockerfile/frontend.hpp"

#include "base/text.hpp"
#include "dockerfile/directives.hpp"
#include "dockerfile/frontend_options.hpp"
#include "dockerfile/source_text.hpp"
#include "dockerfile/subrequest.hpp"

#include <nlohmann/json.hpp>

namespace cooper::dockerfile {

namespace {

llb::Platform to_llb_platform(const oci::Platform& platform) {
    llb::Platform out;
    out.os = platform.os;
    out.architecture = platform.architecture;
    out.variant = platform.variant;
    out.os_version = platform.os_version;
    out.os_features = platform.os_features;
    return out;
}

nlohmann::ordered_json platform_json(const oci::Platform& platform) {
    nlohmann::ordered_json json = {{"architecture", platform.architecture}, {"os", platform.os}};
    if (!platform.os_version.empty()) json["os.version"] = platform.os_version;
    if (!platform.os_features.empty()) json["os.features"] = platform.os_features;
    if (!platform.variant.empty()) json["variant"] = platform.variant;
    return json;
}

Error show_source(const Error& error, const BuildSource& source) {
    const auto* range = error.find_detail<SourceRange>();
    if (range == nullptr) return error;
    const Lines lines{range->first_line, range->last_line};
    return with_excerpt(error, source.filename, source.text, lines)
        .with_detail(SourceText{source.filename, "Dockerfile", std::make_shared<const std::string>(source.text)});
}

// The frontend to forward to; nullopt: this one does it.
std::optional<SyntaxRequest> wanted_frontend(const FrontendOptions& options, const std::string& text) {
    if (options.started_by_gateway) return std::nullopt;
    std::optional<SyntaxRequest> wanted;
    if (!options.syntax.empty()) {
        wanted = SyntaxRequest{std::string(cut(trim(options.syntax), ' ').first), options.syntax, 0};
    } else {
        wanted = detect_syntax(text);
    }
    if (!wanted) return std::nullopt;
    const bool replaced = options.convert.named_contexts.contains(wanted->image);
    if (is_own_frontend(wanted->image) && !replaced) return std::nullopt;
    return wanted;
}

}  // namespace

bool is_own_frontend(const std::string& image) {
    if (image.contains('@')) return false;
    std::string name = image;
    if (const std::size_t colon = name.rfind(':');
        colon != std::string::npos && name.find('/', colon) == std::string::npos)
        name.resize(colon);
    for (const std::string_view host : {"docker.io/", "index.docker.io/"}) {
        if (name.starts_with(host)) name.erase(0, host.size());
    }
    return name == "docker/dockerfile" || name == "docker/dockerfile-upstream" || name == "dockerfile.v0";
}

Error forward_failed(const Error& error, const Forward& forward) {
    if (error.find_detail<SourceRange>() != nullptr) return error;
    if (forward.line == 0) {
        return error.with_context(fmt::format("failed with build-arg:BUILDKIT_SYNTAX = {}", forward.command_line));
    }
    return with_excerpt(error, forward.source.file, *forward.source.text, {forward.line, forward.line})
        .with_detail(forward.source);
}

Result<FrontendAnswer> run_frontend(const FrontendRequest& request, frontend::Bridge& bridge, Stop stop) {
    FrontendOptions options = TRY(parse_frontend_options(request.options));
    options.convert.inputs = request.inputs;
    options.convert.session_id = request.session_id;
    const auto input = [&](const std::string& name) -> std::optional<llb::Definition> {
        const auto found = request.inputs.find(name);
        return found == request.inputs.end() ? std::nullopt : std::optional(found->second);
    };
    options.context.context_input = input(options.context.local_context);
    options.context.dockerfile_input = input(options.context.local_dockerfile);
    const oci::Platform host = oci::host_platform();
    BuildSource source = TRY(load_build_source(options.context, to_llb_platform(host), bridge, stop));

    FrontendAnswer answer;
    if (const auto wanted = wanted_frontend(options, source.text)) {
        answer.forward = Forward{
            wanted->image, wanted->command_line,
            SourceText{source.filename, "Dockerfile", std::make_shared<const std::string>(source.text)}, wanted->line};
        return answer;
    }
    if (options.missing_cap) return unsupported_cap(*options.missing_cap);
    ConvertOptions& convert = options.convert;
    convert.filename = source.filename;
    convert.context = std::move(source.context);
    answer.single = !options.multi_platform;

    std::function<void(WarningEvent)> warn;
    if (request.warn) {
        const SourceText text{source.filename, "Dockerfile", std::make_shared<const std::string>(source.text)};
        warn = [text, &request](WarningEvent warning) {
            if (warning.range) warning.source = text;
            request.warn(std::move(warning));
        };
    }
    if (!options.request_id.empty()) {
        if (!options.platforms.empty()) convert.target_platform = options.platforms.front();
        convert.warn = warn;
        auto reply = answer_subrequest(options.request_id, source.text, convert, bridge, stop);
        if (!reply) return show_source(reply.error(), source);
        answer.metadata = std::move(*reply);
        return answer;
    }

    std::vector<std::optional<oci::Platform>> targets(options.platforms.begin(), options.platforms.end());
    if (targets.empty()) targets.emplace_back();
    nlohmann::ordered_json platforms = nlohmann::ordered_json::array();
    bool first = true;
    for (const auto& target : targets) {
        convert.target_platform = target;
        // Of several platforms only the first warns.
        convert.warn = first ? warn : std::function<void(WarningEvent)>();
        first = false;
        auto plan = to_llb(source.text, convert, bridge, stop);
        if (!plan) return show_source(plan.error(), source);
        const oci::Platform platform = oci::normalize(plan->platform);
        const std::string id = oci::format_platform_all(platform);
        const std::string suffix = answer.single ? std::string() : "/" + id;
        answer.metadata["containerimage.config" + suffix] = oci::marshal_image_config(plan->image);
        if (plan->base_image)
            answer.metadata["containerimage.base.config" + suffix] = oci::marshal_image_config(*plan->base_image);
        if (plan->epoch_seconds) answer.metadata["source.date.epoch" + suffix] = std::to_string(*plan->epoch_seconds);
        platforms.push_back({{"ID", id}, {"Platform", platform_json(platform)}});
        if (options.attestations.contains("sbom")) answer.scans[id] = std::move(plan->scans);
        answer.platforms.emplace_back(id, std::move(plan->definition));
    }
    answer.metadata["refs.platforms"] = nlohmann::ordered_json{{"Platforms", platforms}}.dump();
    return answer;
}

}  // namespace cooper::dockerfile
