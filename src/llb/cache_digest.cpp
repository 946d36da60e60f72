#include "llb/cache_digest.hpp"

#include "codec/base64.hpp"
#include "codec/sha256.hpp"
#include "llb/detail/go_text.hpp"
#include "llb/op_json.hpp"
#include "llb/state.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

namespace cooper::llb {

namespace {

using detail::GoObject;

// Wildcards as in BuildKit's file op: a backslash takes the meaning from what follows.
bool contains_wildcards(std::string_view path) {
    for (std::size_t i = 0; i < path.size(); ++i) {
        if (path[i] == '\\') {
            ++i;
        } else if (path[i] == '*' || path[i] == '?' || path[i] == '[') {
            return true;
        }
    }
    return false;
}

bool has_filters(const ContentSelector& selector) {
    return selector.wildcard || !selector.include_patterns.empty() || !selector.exclude_patterns.empty() ||
           !selector.required_paths.empty();
}

// Sorted, without duplicates and without what lies below another.
std::vector<std::string> dedupe_paths(const std::vector<std::string>& paths) {
    if (paths.size() <= 1) return paths;
    const std::set<std::string> all(paths.begin(), paths.end());
    std::vector<std::string> out;
    for (const std::string& path : all) {
        const bool below = std::ranges::any_of(all, [&](const std::string& other) {
            if (other == path) return false;
            return path.starts_with(other.ends_with('/') ? other : other + '/');
        });
        if (!below) out.push_back(path);
    }
    return out;
}

Digest joined_digest(const std::vector<std::string>& parts) {
    std::string text;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        if (i != 0) text += '\0';
        text += parts[i];
    }
    return codec::sha256_of(text);
}

OpCacheInfo finish(std::string json, std::size_t inputs) {
    OpCacheInfo info;
    info.digest = codec::sha256_of(json);
    info.json = std::move(json);
    info.inputs.resize(inputs);
    return info;
}

// --- exec ---

// The form a Dockerfile gives by default: id is the target, or namespace/target, and shared.
bool is_default_cache(const Mount& mount) {
    if (mount.cache->sharing != CacheSharing::shared) return false;
    if (mount.cache->id == mount.dest) return true;
    const std::size_t slash = mount.cache->id.find('/');
    return slash != std::string::npos && mount.cache->id.substr(slash + 1) == mount.dest;
}

// BuildKit once forgot the mounts of an exec in its key; the commonest case must stay as it was.
bool is_plain_root(const std::vector<Mount>& mounts) {
    if (mounts.size() != 1) return false;
    const Mount& root = mounts.front();
    return root.dest == kRootMount && !root.readonly && root.type == MountType::bind && !root.cache && !root.ssh &&
           !root.secret && root.result_id.empty();
}

std::string exec_json(ExecOp exec, const Platform& platform) {
    for (HostIp& host : exec.meta.extra_hosts) host.ip.clear();
    for (Mount& mount : exec.mounts) {
        mount.selector.clear();
        if (mount.cache && !is_default_cache(mount)) mount.cache = CacheOpt{};
    }
    exec.meta.proxy_env.reset();
    if (is_plain_root(exec.mounts)) exec.mounts.clear();
    GoObject out;
    out.always_text("Type", "buildkit.exec.v0");
    out.always_raw("Exec", to_go_json(exec));
    out.always_text("OS", platform.os);
    out.always_text("Arch", platform.architecture);
    out.text("Variant", platform.variant);
    out.text("OSVersion", platform.os_version);
    out.texts("OSFeatures", platform.os_features);
    return out.take();
}

// May what this mount shows be known by its content? Only if nothing outside the selected path can
// get into a result.
Result<bool> is_content_cached(const Mount& mount, const std::string& selector) {
    const bool safe = mount.output == kSkipOutput || mount.readonly || selector == "/";
    switch (mount.content_cache) {
        case MountContentCache::off:
            return false;
        case MountContentCache::on:
            if (!safe) return bad_input("content cache cannot be forced for the mount on {}", mount.dest);
            return true;
        case MountContentCache::standard:
            break;
    }
    return safe && mount.dest != kRootMount;
}

Result<OpCacheInfo> exec_info(const Op& op, const ExecOp& exec, const Platform& platform) {
    OpCacheInfo info = finish(exec_json(exec, platform), op.inputs.size());
    std::vector<std::vector<std::string>> selectors(op.inputs.size());
    std::vector<bool> content(op.inputs.size(), true);
    for (const Mount& mount : exec.mounts) {
        if (mount.type != MountType::bind && mount.type != MountType::cache) continue;
        if (mount.input == kEmpty) continue;
        const auto input = static_cast<std::size_t>(mount.input);
        if (mount.input < 0 || input >= op.inputs.size()) return bad_input("invalid mount input {}", mount.input);
        const std::string selector = join_path("/", mount.selector);
        selectors[input].push_back(selector);
        const bool cached = TRY(is_content_cached(mount, selector));
        content[input] = content[input] && cached;
    }
    for (std::size_t i = 0; i < selectors.size(); ++i) {
        InputCacheInfo& input = info.inputs[i];
        input.needs_unlazy = true;
        if (selectors[i].empty()) continue;
        input.selector = joined_digest(selectors[i]);
        if (!content[i]) continue;
        for (const std::string& path : dedupe_paths(selectors[i])) {
            if (path == "/") {
                input.content = {ContentSelector{.path = "/"}};
                break;
            }
            input.content.push_back({.path = path, .follow_links = true});
        }
    }
    return info;
}

// --- file ---

// The commonest shape of indexes is left out of the key, for the sake of keys older than they are.
// BuildKit compares with the number of actions where it means the number of inputs; so do we.
bool has_default_indexes(const FileOp& file) {
    const auto count = static_cast<std::int64_t>(file.actions.size());
    for (std::int64_t i = 0; i < count; ++i) {
        const FileAction& action = file.actions[static_cast<std::size_t>(i)];
        if (action.input != (i == 0 ? 0 : count + i - 1)) return false;
        if (action.secondary_input != kEmpty && action.secondary_input != 1) return false;
        if (action.output != (i == count - 1 ? 0 : kSkipOutput)) return false;
    }
    return count != 0;
}

// Go's path.Base.
std::string base_name(std::string_view path) {
    if (path.empty()) return ".";
    while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
    if (path == "/") return "/";
    return std::string(path.substr(path.rfind('/') + 1));
}

using FileSelectors = std::map<std::size_t, std::vector<ContentSelector>>;

void add_owner_selectors(const std::optional<ChownOpt>& owner, FileSelectors& selectors) {
    if (!owner) return;
    const auto add = [&](const std::optional<UserOpt>& user, const char* file) {
        const auto* named = user ? std::get_if<NamedUser>(&*user) : nullptr;
        if (named == nullptr || named->input < 0) return;
        selectors[static_cast<std::size_t>(named->input)].push_back({.path = file, .follow_links = true});
    };
    add(owner->user, "/etc/passwd");
    // BuildKit stops at a user without a base and then forgets the group as well.
    if (owner->user) {
        const auto* named = std::get_if<NamedUser>(&*owner->user);
        if (named != nullptr && named->input < 0) return;
    }
    add(owner->group, "/etc/group");
}

std::string action_json(const FileAction& action, std::size_t inputs, FileSelectors& selectors) {
    if (const auto* copy = std::get_if<CopyAction>(&action.action)) {
        add_owner_selectors(copy->owner, selectors);
        CopyAction key = *copy;
        if (action.secondary_input != kEmpty && static_cast<std::size_t>(action.secondary_input) < inputs) {
            selectors[static_cast<std::size_t>(action.secondary_input)].push_back(
                {copy->src, copy->allow_wildcard && contains_wildcards(copy->src), copy->follow_symlink,
                 copy->include_patterns, copy->exclude_patterns, copy->required_paths});
            key.src = base_name(copy->src);
        }
        return to_go_json(key);
    }
    if (const auto* file = std::get_if<MkFileAction>(&action.action)) {
        add_owner_selectors(file->owner, selectors);
        return to_go_json(*file);
    }
    if (const auto* dir = std::get_if<MkDirAction>(&action.action)) {
        add_owner_selectors(dir->owner, selectors);
        return to_go_json(*dir);
    }
    if (const auto* rm = std::get_if<RmAction>(&action.action)) return to_go_json(*rm);
    if (const auto* link = std::get_if<SymlinkAction>(&action.action)) return to_go_json(*link);
    return {};
}

std::vector<ContentSelector> dedupe_selectors(const std::vector<ContentSelector>& all) {
    std::vector<std::string> plain;
    std::vector<std::string> followed;
    for (const ContentSelector& selector : all) {
        if (!has_filters(selector)) (selector.follow_links ? followed : plain).push_back(selector.path);
    }
    std::vector<ContentSelector> out;
    for (const std::string& path : dedupe_paths(plain)) out.push_back({.path = path});
    for (const std::string& path : dedupe_paths(followed)) out.push_back({.path = path, .follow_links = true});
    for (const ContentSelector& selector : all) {
        if (has_filters(selector)) out.push_back(selector);
    }
    std::ranges::stable_sort(out, {}, &ContentSelector::path);
    return out;
}

Result<OpCacheInfo> file_info(const Op& op, const FileOp& file) {
    FileSelectors selectors;
    std::set<std::size_t> bases;
    std::vector<std::string> actions;
    std::vector<std::string> indexes;
    for (const FileAction& action : file.actions) {
        if (action.input != kEmpty) bases.insert(static_cast<std::size_t>(action.input));
        std::string quoted_action = "\"";
        quoted_action += codec::base64_encode(action_json(action, op.inputs.size(), selectors)) + "\"";
        actions.push_back(std::move(quoted_action));
        indexes.push_back("[" + std::to_string(action.input) + "," + std::to_string(action.secondary_input) + "," +
                          std::to_string(action.output) + "]");
    }
    GoObject out;
    out.always_text("Type", "buildkit.file.v0");
    out.always_raw("Actions", detail::json_list(actions));
    if (!has_default_indexes(file)) out.always_raw("indexes", detail::json_list(indexes));
    OpCacheInfo info = finish(out.take(), op.inputs.size());
    for (const auto& [index, wanted] : selectors) {
        if (index >= info.inputs.size()) {
            return bad_input("invalid input index {} in file op with {} inputs", index, info.inputs.size());
        }
        if (bases.contains(index)) continue;
        std::vector<std::string> paths;
        for (const ContentSelector& selector : wanted) paths.push_back(selector.path);
        std::ranges::sort(paths, std::greater{});
        info.inputs[index].selector = joined_digest(paths);
        info.inputs[index].content = dedupe_selectors(wanted);
    }
    for (InputCacheInfo& input : info.inputs) input.needs_unlazy = true;
    return info;
}

template <class Body>
OpCacheInfo typed_info(const char* type, const char* member, const Body& body, std::size_t inputs) {
    GoObject out;
    out.always_text("Type", type);
    out.always_raw(member, to_go_json(body));
    return finish(out.take(), inputs);
}

}  // namespace

Result<OpCacheInfo> cache_info(const Op& op, const Platform& platform) {
    const std::size_t inputs = op.inputs.size();
    if (const auto* exec = std::get_if<ExecOp>(&op.body)) return exec_info(op, *exec, platform);
    if (const auto* file = std::get_if<FileOp>(&op.body)) return file_info(op, *file);
    if (const auto* merge = std::get_if<MergeOp>(&op.body)) {
        return typed_info("buildkit.merge.v0", "Merge", *merge, inputs);
    }
    if (const auto* diff = std::get_if<DiffOp>(&op.body)) return typed_info("buildkit.diff.v0", "Diff", *diff, inputs);
    if (const auto* build = std::get_if<BuildOp>(&op.body)) {
        if (!build->definition.empty()) return bad_input("a build op with an inline definition has no cache key");
        return typed_info("buildkit.build.v0", "Exec", *build, inputs);
    }
    if (const auto* pass = std::get_if<PassthroughOp>(&op.body)) {
        return typed_info("buildkit.passthrough.v0", "Passthrough", *pass, inputs);
    }
    return fail(Code::internal, Blame::cooper, "cache_info asked for a source or an empty operation");
}

Digest source_cache_digest(std::string_view key) { return codec::sha256_of("buildkit.source.v0:" + std::string(key)); }

}  // namespace cooper::llb
