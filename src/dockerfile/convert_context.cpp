#include "dockerfile/convert_context.hpp"

#include "base/text.hpp"
#include "codec/path_match.hpp"
#include "codec/pattern_matcher.hpp"
#include "dockerfile/parse.hpp"
#include "frontend/git_ref.hpp"

#include <array>

namespace cooper::dockerfile {

namespace {

constexpr std::size_t kArchiveProbeBytes = 1024;

bool is_http(std::string_view text) { return text.starts_with("http://") || text.starts_with("https://"); }

bool is_tar_header(std::string_view block) {
    if (block.size() < 512) return false;
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < 512; ++i) {
        sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(block[i]);
    }
    std::uint64_t written = 0;
    bool any = false;
    for (const char c : block.substr(148, 8)) {
        if (c >= '0' && c <= '7') {
            written = written * 8 + static_cast<std::uint64_t>(c - '0');
            any = true;
        } else if (any) {
            break;
        }
    }
    return any && written == sum;
}

bool is_archive(std::string_view head) {
    using namespace std::string_view_literals;
    constexpr std::array kMagic = {"BZh"sv, "\x1F\x8B\x08"sv, "\xFD\x37\x7A\x58\x5A\x00"sv};
    for (const std::string_view magic : kMagic) {
        if (head.starts_with(magic)) return true;
    }
    return is_tar_header(head);
}

Result<std::optional<llb::State>> http_context(const ContextOptions& options, BuildSource& source,
                                               frontend::Bridge& bridge, const Stop& stop) {
    if (!is_http(options.context)) return std::nullopt;
    llb::HttpOptions http{.filename = "context"};
    http.constraints.set_name(internal_name("load remote build context"));
    const llb::State file = llb::http(options.context, std::move(http));
    const std::string head =
        TRY_CONTEXT(bridge.peek_http(options.context, kArchiveProbeBytes, stop), "failed to read downloaded context");
    if (!is_archive(head)) {
        source.filename = "context";
        return file;
    }
    llb::FileActions unpack;
    unpack.copy(file, "/context", "/", {.attempt_unpack = true});
    return llb::scratch().file(std::move(unpack), {});
}

llb::State scope(const llb::State& context, const std::string& subdir) {
    llb::FileActions copy;
    copy.copy(context, subdir, "/", {.dir_contents_only = true});
    return llb::scratch().file(std::move(copy), {});
}

std::string lower_sibling(const std::string& filename) {
    if (codec::base_name(filename) != "Dockerfile") return {};
    return codec::join_path(codec::dir_name(codec::clean_path(filename)), "dockerfile");
}

Error no_dockerfile(const std::string& filename) {
    return fail(Code::not_found, Blame::user, "failed to read dockerfile: open {}: no such file or directory", filename)
        .with_hint("name the file with -f, or run the command in the directory that has it");
}

// One byte more than there may be: parse() says where it is too large.
Result<> read_remote_dockerfile(BuildSource& source, const llb::Definition& definition, frontend::Bridge& bridge,
                                const Stop& stop) {
    auto text = TRY(bridge.read_file_of(definition, source.filename, kMaxFile + 1, stop));
    if (const std::string other = lower_sibling(source.filename); !text && !other.empty())
        text = TRY(bridge.read_file_of(definition, other, kMaxFile + 1, stop));
    if (!text) return no_dockerfile(source.filename);
    source.text = std::move(*text);
    return {};
}

// The Dockerfile, and the text of the ignore file beside it.
Result<std::optional<std::string>> read_local_dockerfile(BuildSource& source, const ContextOptions& options,
                                                         frontend::Bridge& bridge, const Stop& stop) {
    std::vector<std::string> paths = {source.filename, source.filename + ".dockerignore"};
    if (std::string other = lower_sibling(source.filename); !other.empty()) paths.push_back(std::move(other));
    auto texts = TRY(bridge.read_local_files(options.local_dockerfile, paths,
                                             std::max<std::size_t>(kMaxFile, codec::kMaxIgnoreFileBytes) + 1,
                                             internal_name("load build definition from " + source.filename), stop));
    std::optional<std::string>& text = texts[0] || texts.size() < 3 ? texts[0] : texts[2];
    if (!text) return no_dockerfile(source.filename);
    source.text = std::move(*text);
    return std::move(texts[1]);
}

}  // namespace

Result<std::optional<std::vector<std::string>>> load_ignore_file(frontend::Bridge& bridge,
                                                                 const std::string& local_name, const std::string& path,
                                                                 const std::string& log_name, Stop stop) {
    const auto texts =
        TRY(bridge.read_local_files(local_name, {path}, codec::kMaxIgnoreFileBytes + 1, log_name, std::move(stop)));
    if (!texts[0]) return std::optional<std::vector<std::string>>();
    return std::optional(TRY(codec::read_ignore_file(*texts[0], path)));
}

std::string url_file_name(std::string_view url) {
    std::string_view rest = url.substr(url.find("://") + 3);
    rest = rest.substr(0, rest.find_first_of("?#"));
    const std::size_t slash = rest.find('/');
    if (slash == std::string_view::npos) return "__unnamed__";
    std::string path;
    for (std::size_t i = slash; i < rest.size(); ++i) {
        std::uint8_t byte = 0;
        if (rest[i] == '%') {
            if (i + 2 >= rest.size() || !from_hex(to_lower(rest.substr(i + 1, 2)), {&byte, 1})) return "__unnamed__";
            path += static_cast<char>(byte);
            i += 2;
        } else {
            path += rest[i];
        }
    }
    const std::string_view base = codec::base_name(path);
    if (base == "." || base == "/") return "__unnamed__";
    return std::string(base);
}

std::string internal_name(std::string_view name) { return "[internal] " + std::string(name); }

Result<std::optional<llb::State>> git_context(const std::string& reference, std::optional<bool> keep_git_dir,
                                              std::string_view default_mtime) {
    const auto git = TRY(frontend::parse_git_ref(reference));
    if (!git) return std::nullopt;
    llb::GitOptions options;
    options.ref = git->ref;
    options.subdir = git->subdir;
    options.keep_git_dir = git->keep_git_dir.value_or(false) || keep_git_dir.value_or(false);
    options.skip_submodules = !git->submodules.value_or(true);
    options.checksum = git->checksum;
    options.mtime = git->mtime.empty() ? std::string(default_mtime) : git->mtime;
    options.fetch_by_commit = git->fetch_by_commit;
    options.constraints.set_name(internal_name("load git source " + reference));
    return llb::git(git->remote, std::move(options));
}

Result<BuildSource> load_build_source(const ContextOptions& options, const llb::Platform& platform,
                                      frontend::Bridge& bridge, Stop stop) {
    BuildSource source;
    source.filename = options.filename.empty() ? "Dockerfile" : options.filename;
    source.context.local_name = options.local_context;
    std::optional<llb::State> dockerfile_state;
    if (!options.context.empty()) {
        auto remote = TRY(git_context(options.context, options.keep_git_dir, options.commit_mtimes ? "commit" : ""));
        if (!remote) remote = TRY(http_context(options, source, bridge, stop));
        if (!remote) {
            return bad_input("build context {} is neither a git repository nor an http(s) address", options.context);
        }
        dockerfile_state = remote;
        source.context.remote = options.subdir.empty() ? *remote : scope(*remote, options.subdir);
    } else {
        if (options.context_input) source.context.remote = TRY(llb::from_definition(*options.context_input));
        if (options.dockerfile_input) dockerfile_state = TRY(llb::from_definition(*options.dockerfile_input));
    }
    std::optional<std::string> beside;
    if (options.dockerfile_text) {
        source.text = *options.dockerfile_text;
    } else if (dockerfile_state && !options.force_local_dockerfile) {
        TRY(read_remote_dockerfile(source, TRY(llb::marshal_definition(*dockerfile_state, platform)), bridge, stop));
    } else {
        beside = TRY(read_local_dockerfile(source, options, bridge, stop));
    }
    if (source.context.remote) return source;
    // The ignore file beside the Dockerfile wins over the one of the context; they are not merged.
    std::optional<std::vector<std::string>> ignore;
    if (beside) ignore = TRY(codec::read_ignore_file(*beside, source.filename + ".dockerignore"));
    if (!ignore) {
        ignore = TRY(load_ignore_file(bridge, options.local_context, ".dockerignore",
                                      internal_name("load .dockerignore"), stop));
    }
    source.context.has_ignore_file = ignore.has_value();
    if (ignore) source.context.exclude_patterns = std::move(*ignore);
    return source;
}

}  // namespace cooper::dockerfile
