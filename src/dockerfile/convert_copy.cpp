// COPY and ADD: local files, other stages, here-documents, URLs and git.
#include "base/text.hpp"
#include "codec/path_match.hpp"
#include "dockerfile/convert_context.hpp"
#include "dockerfile/convert_dispatch.hpp"
#include "dockerfile/convert_text.hpp"
#include "dockerfile/convert_values.hpp"
#include "frontend/git_ref.hpp"

#include <algorithm>

namespace cooper::dockerfile {

namespace {

bool is_url(std::string_view source) { return source.starts_with("http://") || source.starts_with("https://"); }

}  // namespace

// What COPY and ADD have in common, with words expanded.
struct CopyRequest {
    const FileSources& files;
    llb::State source;
    bool add = false;
    std::string chown;
    std::string chmod;
    bool link = false;
    bool parents = false;
    std::optional<bool> keep_git_dir;
    std::optional<bool> unpack;
    std::string checksum;
    std::vector<std::string> exclude;
};

namespace {

class CopyBuilder {
public:
    // here: name and location of the instruction, for what ADD downloads.
    CopyBuilder(const CopyRequest& request, std::string dest, llb::Constraints here, const oci::Platform& platform)
        : request_(request), dest_(std::move(dest)), here_(std::move(here)), platform_(platform) {
        here_.metadata.ignore_cache = false;
    }

    Result<llb::FileActions> build() {
        if (!request_.chmod.empty()) chmod_ = TRY(parse_chmod(request_.chmod));
        TRY(check_checksum());
        for (const std::string& source : request_.files.paths) TRY(add_source(source));
        for (const Heredoc& doc : request_.files.contents) add_heredoc(doc);
        return std::move(actions_);
    }

private:
    [[nodiscard]] llb::CopyOptions options() const {
        llb::CopyOptions out;
        out.mode = chmod_.mode;
        out.mode_str = chmod_.mode_str;
        out.create_dest_path = true;
        if (!request_.chown.empty()) out.owner = llb::Owner::parse(request_.chown);
        out.exclude_patterns = request_.exclude;
        return out;
    }

    Result<bool> is_git(const std::string& source) const {
        const auto git = TRY(frontend::parse_git_ref(source));
        return git && !git->indistinguishable_from_local;
    }

    Result<> check_checksum() {
        if (request_.checksum.empty()) return {};
        if (!request_.add) return bad_input("checksum can't be specified for COPY");
        if (request_.files.paths.size() != 1) return bad_input("checksum can't be specified for multiple sources");
        const std::string& source = request_.files.paths.front();
        const bool git = TRY(is_git(source));
        if (!git && !is_url(source)) return bad_input("checksum requires HTTP(S) or Git sources");
        return {};
    }

    Result<> add_source(const std::string& source) {
        const auto git = TRY(frontend::parse_git_ref(source));
        if (git && !git->indistinguishable_from_local) return add_git(*git);
        if (is_url(source)) return add_url(source);
        return add_local(source);
    }

    Result<> add_git(const frontend::GitRef& git) {
        if (!request_.add) return bad_input("source can't be a git ref for COPY");
        if (request_.keep_git_dir && git.keep_git_dir && *request_.keep_git_dir != *git.keep_git_dir) {
            return bad_input("inconsistent keep-git-dir configuration");
        }
        if (!request_.checksum.empty() && !git.checksum.empty() && request_.checksum != git.checksum) {
            return bad_input("checksum mismatch {} != {}", quoted(request_.checksum), quoted(git.checksum));
        }
        llb::GitOptions out;
        out.ref = git.ref;
        out.subdir = git.subdir;
        out.keep_git_dir = git.keep_git_dir.value_or(request_.keep_git_dir.value_or(false));
        out.checksum = git.checksum.empty() ? request_.checksum : git.checksum;
        out.skip_submodules = !git.submodules.value_or(true);
        out.fetch_by_commit = git.fetch_by_commit;
        out.constraints = here_;
        actions_.copy(llb::git(git.remote, std::move(out)), "/", dest_, options());
        return {};
    }

    Result<> add_url(const std::string& url) {
        if (!request_.add) return bad_input("source can't be a URL for COPY");
        llb::HttpOptions http;
        http.filename = url_file_name(url);
        if (!request_.checksum.empty()) http.checksum = TRY(Digest::parse(request_.checksum)).to_string();
        http.constraints = here_;
        const std::string file = http.filename;
        llb::CopyOptions copy = options();
        copy.attempt_unpack = request_.unpack.value_or(false);
        actions_.copy(llb::http(url, std::move(http)), file, dest_, std::move(copy));
        return {};
    }

    Result<> add_local(std::string source) {
        llb::CopyOptions copy = options();
        copy.follow_symlinks = true;
        copy.dir_contents_only = true;
        copy.allow_wildcard = true;
        copy.allow_empty_wildcard = true;
        copy.attempt_unpack = request_.unpack.value_or(request_.add);
        if (request_.parents) {
            std::string pattern = source;
            if (const std::size_t pivot = source.find("/./"); pivot != std::string::npos) {
                pattern = source.substr(pivot + 3);
                source.resize(pivot);
            } else {
                source = "/";
            }
            pattern = llb::normalize_path("/", pattern.empty() ? "." : pattern, llb::TrailingSlash::drop);
            copy.include_patterns = {pattern.substr(1)};
            if (!codec::has_wildcard(source) && !codec::has_wildcard(pattern)) {
                copy.required_paths = {llb::normalize_path("/", source + "/" + pattern, llb::TrailingSlash::drop)};
            }
        }
        actions_.copy(request_.source,
                      llb::normalize_path("/", source.empty() ? "." : source, llb::TrailingSlash::drop), dest_,
                      std::move(copy));
        return {};
    }

    void add_heredoc(const Heredoc& doc) {
        llb::FileActions file;
        file.mkfile(doc.name, 0644, doc.data, std::nullopt, std::nullopt);
        llb::Constraints beside;
        beside.platform = to_llb_platform(platform_);
        beside.set_name(internal_name("preparing inline document"));
        actions_.copy(llb::scratch().file(std::move(file), std::move(beside)), doc.name, dest_, options());
    }

    const CopyRequest& request_;
    std::string dest_;
    llb::Constraints here_;
    const oci::Platform& platform_;
    ChmodValue chmod_;
    llb::FileActions actions_;
};

std::string history_of(const CopyRequest& request) {
    std::string out = request.add ? "ADD" : "COPY";
    if (request.parents) out += " --parents";
    if (!request.chown.empty()) out += " --chown=" + request.chown;
    if (!request.chmod.empty()) out += " --chmod=" + request.chmod;
    for (const std::string& source : request.files.paths) out += " " + source;
    for (const Heredoc& doc : request.files.contents) out += " <<" + doc.name;
    return out + " " + request.files.dest + " # buildkit";
}

}  // namespace

Result<> Dispatcher::copy_files(const CopyRequest& request) {
    const std::string& given = request.files.dest;
    const std::string dest =
        llb::normalize_path(stage_.state.dir(), given.empty() || given == "." ? "./" : given, llb::TrailingSlash::keep);
    const std::string shown =
        uppercase_command(expand_for_display(command_->instruction.original, stage_.state.env(), Unset::empty));
    const std::string name = named_step(shown);
    llb::FileActions actions = TRY(CopyBuilder(request, dest, constraints(name), platform()).build());
    if (!request.link || !request.chmod.empty()) {
        stage_.state = stage_.state.file(std::move(actions), constraints(name));
    } else {
        // A layer of its own, made on nothing and merged: it stays valid whatever is below it.
        --stage_.counter.index;
        const std::string link_name = named_step("LINK " + shown);
        llb::OpProgressGroup group{
            "link:" + (stage_.counter.show_platform ? oci::format_platform_all(platform()) : "") + ":" +
                stage_.counter.stage + ":" + std::to_string(stage_.counter.index),
            name, true};
        llb::Constraints copy_beside = constraints(name);
        copy_beside.platform = to_llb_platform(platform());
        copy_beside.metadata.progress_group = group;
        llb::Constraints merge_beside = constraints(link_name);
        group.weak = false;
        merge_beside.metadata.progress_group = group;
        const llb::State layer = llb::scratch().file(std::move(actions), std::move(copy_beside));
        stage_.state = stage_.state.with_output(llb::merge({stage_.state, layer}, std::move(merge_beside)).output());
    }
    commit(history_of(request), true);
    return {};
}

Result<> Dispatcher::expand_sources(FileSources& files) {
    for (std::string& path : files.paths) TRY(expand_in_place(path));
    TRY(expand_in_place(files.dest));
    for (Heredoc& doc : files.contents) {
        if (doc.expand) doc.data = TRY(expand_heredoc(doc.data));
    }
    return {};
}

// Of the main context: what the ignore file takes away cannot be copied.
void Dispatcher::lint_sources(const FileSources& files) {
    for (const std::string& path : files.paths) {
        const auto git = frontend::parse_git_ref(path);
        if (is_url(path) || (git && *git && !(*git)->indistinguishable_from_local)) continue;
        lint_copy_source(shared_.linter, command_->instruction, path, shared_.ignored,
                         shared_.options.context.exclude_patterns);
    }
}

Result<> Dispatcher::dispatch(CopyCommand& copy) {
    TRY(expand_in_place(copy.chown));
    TRY(expand_in_place(copy.chmod));
    TRY(expand_sources(copy.files));
    if (copy.from.empty()) lint_sources(copy.files);
    CopyRequest request{.files = copy.files,
                        .source = shared_.build_context,
                        .chown = copy.chown,
                        .chmod = copy.chmod,
                        .link = copy.link,
                        .parents = copy.parents,
                        .exclude = copy.exclude};
    StageState* from = command_->sources.empty() ? nullptr : command_->sources.front();
    if (from != nullptr) {
        if (!from->dispatched) {
            return bad_input("cannot copy from stage {}, it needs to be defined before current stage {}",
                             quoted(copy.from), quoted(stage_.counter.stage));
        }
        request.source = from->state;
    }
    TRY(copy_files(request));
    std::set<std::string>& used = from != nullptr ? *from->paths : stage_.context_paths;
    for (const std::string& path : copy.files.paths) used.insert(llb::join_path("/", path));
    return {};
}

Result<> Dispatcher::dispatch(AddCommand& add) {
    TRY(expand_in_place(add.chown));
    TRY(expand_in_place(add.chmod));
    TRY(expand_in_place(add.checksum));
    TRY(expand_sources(add.files));
    lint_sources(add.files);
    const CopyRequest request{.files = add.files,
                              .source = shared_.build_context,
                              .add = true,
                              .chown = add.chown,
                              .chmod = add.chmod,
                              .link = add.link,
                              .keep_git_dir = add.keep_git_dir,
                              .unpack = add.unpack,
                              .checksum = add.checksum,
                              .exclude = add.exclude};
    TRY(copy_files(request));
    for (const std::string& path : add.files.paths) {
        if (!is_url(path)) stage_.context_paths.insert(llb::join_path("/", path));
    }
    return {};
}

}  // namespace cooper::dockerfile
