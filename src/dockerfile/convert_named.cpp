#include "dockerfile/convert_named.hpp"

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "codec/path_match.hpp"
#include "codec/pattern_matcher.hpp"
#include "dockerfile/convert_context.hpp"
#include "dockerfile/convert_names.hpp"
#include "oci/reference.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cooper::dockerfile {

namespace {

std::string strip_slashes(std::string_view text) {
    if (text.starts_with("//")) text.remove_prefix(2);
    return std::string(text);
}

class ContextLoader {
public:
    ContextLoader(const NamedContext& context, const ConvertOptions& options, UsedPaths paths, frontend::Bridge& bridge,
                  Stop stop)
        : context_(context), options_(options), paths_(std::move(paths)), bridge_(bridge), stop_(std::move(stop)) {}

    Result<LoadedContext> load() {
        const auto [kind_text, rest_text] = cut(context_.value, ':');
        if (!rest_text) return bad_input("invalid context specifier {} for {}", context_.value, context_.key);
        // "git@host:path" has no scheme of its own.
        const std::string kind = kind_text.starts_with("git@") ? "git" : std::string(kind_text);
        const std::string rest(*rest_text);
        if (kind == "docker-image") return image(strip_slashes(rest));
        if (kind == "git" || kind == "file") return git(true);
        if (kind == "http" || kind == "https") return git(false);
        if (kind == "oci-layout") return layout(strip_slashes(rest));
        if (kind == "local") return local(rest);
        if (kind == "input") return input(rest);
        return bad_input("unsupported context source {} for {}", kind, context_.key)
            .with_hint("use a directory, docker-image://, https://, git@… or oci-layout://");
    }

private:
    [[nodiscard]] std::string title(std::string_view what) const {
        return "[context " + context_.key + "] " + std::string(what);
    }

    static Result<oci::ImageConfig> parse(const std::string& json) {
        oci::ImageConfig image = TRY(oci::parse_image_config(json));
        image.created.reset();
        return image;
    }

    Result<LoadedContext> image(const std::string& reference) {
        if (reference == "scratch") return LoadedContext{};
        const oci::Reference named = TRY(oci::Reference::parse_normalized(reference));
        const llb::Platform platform = to_llb_platform(context_.platform);
        const frontend::ResolvedImage resolved = TRY(bridge_.resolve_image_config(
            named.canonical(), platform, options_.resolve_mode, title("load metadata for " + reference), stop_));
        LoadedContext out;
        out.image = TRY(parse(resolved.config_json));
        llb::ImageOptions image_options;
        image_options.constraints.platform = platform;
        image_options.constraints.set_name(title(reference));
        // Not pinned to the digest here: BuildKit's key has the name, the source pins it.
        out.state = llb::image(resolved.reference, std::move(image_options));
        apply_image_config(out.state, *out.image);
        return out;
    }

    Result<LoadedContext> git(bool required) {
        auto state = TRY(git_context(context_.value, std::nullopt, ""));
        if (state) return LoadedContext{std::move(*state), std::nullopt};
        if (required) return bad_input("invalid git context {}", context_.value);
        llb::HttpOptions http{.filename = "context"};
        http.constraints.set_name(title(context_.value));
        return LoadedContext{llb::http(context_.value, std::move(http)), std::nullopt};
    }

    Result<LoadedContext> layout(const std::string& spec) {
        const std::size_t at = spec.rfind('@');
        if (at == std::string::npos) return bad_input("oci-layout reference {} has no digest", quoted(spec));
        const Digest digest = TRY_CONTEXT(Digest::parse(spec.substr(at + 1)), "oci-layout reference {}", quoted(spec));
        // A tag between name and digest says nothing more.
        const std::string store = spec.substr(0, std::min(at, spec.find(':', spec.rfind('/', at) + 1)));
        if (store.empty()) return bad_input("oci-layout reference {} has no name", quoted(spec));
        // The name is only for people; the store is named beside it.
        const oci::Reference named = TRY(oci::Reference::parse_untagged(context_.name));
        const std::string reference = named.with_digest(digest).canonical();
        const llb::Platform platform = to_llb_platform(context_.platform);
        const frontend::ResolvedImage resolved = TRY(bridge_.resolve_oci_layout(
            {.reference = reference, .store_id = store}, platform, title("load metadata for " + reference), stop_));
        LoadedContext out;
        out.image = TRY(parse(resolved.config_json));
        llb::OciLayoutOptions layout_options{.store_id = store};
        layout_options.constraints.platform = platform;
        layout_options.constraints.set_name(title("OCI load from client"));
        out.state = llb::oci_layout(reference, std::move(layout_options));
        apply_image_config(out.state, *out.image);
        return out;
    }

    Result<LoadedContext> local(const std::string& name) {
        auto ignore = TRY(load_ignore_file(bridge_, name, ".dockerignore", title("load .dockerignore"), stop_));
        llb::LocalOptions base;
        const auto shared = options_.local_shared_keys.find(context_.key);
        base.shared_key_hint =
            "context:" + context_.key + "-" + (shared == options_.local_shared_keys.end() ? "" : shared->second);
        base.session_id = session_of(options_, name);
        if (ignore) base.exclude_patterns = std::move(*ignore);
        base.constraints.set_name(title("load from client"));
        return LoadedContext{llb::deferred([name, base = std::move(base), paths = paths_] {
                                 llb::LocalOptions local_options = base;
                                 if (paths) local_options.follow_paths = follow_paths(*paths);
                                 return llb::local(name, std::move(local_options));
                             }),
                             std::nullopt};
    }

    Result<LoadedContext> input(const std::string& name) {
        const auto found = options_.inputs.find(name);
        if (found == options_.inputs.end()) return bad_input("invalid input {} for {}", name, context_.key);
        LoadedContext out;
        out.state = TRY(llb::from_definition(found->second));
        const auto metadata = options_.input_metadata.find(name);
        if (metadata == options_.input_metadata.end()) return out;
        // Values are bytes, which JSON has in base64.
        const auto json = nlohmann::json::parse(metadata->second, nullptr, false);
        if (!json.is_object()) return bad_input("failed to parse input metadata {}", metadata->second);
        const auto config = json.find("containerimage.config");
        if (config == json.end() || config->is_null()) return out;
        if (!config->is_string()) return bad_input("failed to parse input metadata {}", metadata->second);
        const std::string text =
            TRY_CONTEXT(codec::base64_decode(config->get_ref<const std::string&>()), "failed to parse input metadata");
        out.image = TRY_CONTEXT(oci::parse_image_config(text), "failed to parse image config for {}", context_.key);
        apply_image_config(out.state, *out.image);
        return out;
    }

    const NamedContext& context_;
    const ConvertOptions& options_;
    UsedPaths paths_;
    frontend::Bridge& bridge_;
    Stop stop_;
};

}  // namespace

Result<std::optional<NamedContext>> find_named_context(const ConvertOptions& options, std::string_view name,
                                                       const oci::Platform& platform) {
    if (options.named_contexts.empty()) return std::nullopt;
    if (equal_ignoring_case(name, "scratch") || equal_ignoring_case(name, "context")) return std::nullopt;
    const oci::Reference named =
        TRY_CONTEXT(oci::Reference::parse_untagged(name), "invalid context name {}", std::string(name));
    std::string familiar = named.familiar();
    if (familiar.ends_with(":latest")) familiar.resize(familiar.size() - 7);
    for (const std::string& key : {familiar + "::" + oci::format_platform_all(oci::normalize(platform)), familiar}) {
        const auto found = options.named_contexts.find(key);
        if (found != options.named_contexts.end()) return NamedContext{familiar, key, found->second, platform};
    }
    return std::nullopt;
}

Result<LoadedContext> load_named_context(const NamedContext& context, const ConvertOptions& options,
                                         const UsedPaths& paths, frontend::Bridge& bridge, Stop stop) {
    return TRY_CONTEXT(ContextLoader(context, options, paths, bridge, std::move(stop)).load(), "build context {}",
                       context.key);
}

std::string session_of(const ConvertOptions& options, const std::string& local_name) {
    const auto found = options.local_session_ids.find(local_name);
    return found == options.local_session_ids.end() ? options.session_id : found->second;
}

std::vector<std::string> follow_paths(const std::set<std::string>& used) {
    std::vector<std::string> out;
    for (const std::string& path : used) {
        if (path == "/") return {};
        out.push_back(codec::join_path(".", path));
    }
    std::ranges::sort(out);
    return out;
}

void apply_image_config(llb::State& state, const oci::ImageConfig& image) {
    for (const std::string& entry : image.config.env) {
        const auto [key, value] = cut(entry, '=');
        if (!key.empty()) state.add_env(key, value.value_or(""));
    }
    state.set_dir(llb::normalize_path(state.dir(), image.config.working_dir.empty() ? "." : image.config.working_dir,
                                      llb::TrailingSlash::drop));
    if (!image.platform.architecture.empty() && !image.platform.os.empty()) {
        state.set_platform(to_llb_platform(oci::normalize(image.platform)));
    }
}

}  // namespace cooper::dockerfile
