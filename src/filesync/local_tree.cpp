#include "filesync/local_tree.hpp"

#include "codec/path_match.hpp"
#include "snapshot/live_dir.hpp"

#include <algorithm>
#include <set>

namespace cooper::filesync {

namespace {

using snapshot::FollowLast;
using snapshot::Kind;
using snapshot::Tree;

constexpr std::size_t kMaxFollowed = 100'000;

std::string relative(std::string_view path) {
    std::string clean = codec::rooted_path(path);
    clean.erase(0, 1);
    return clean;
}

// Components of the paths are looked at one after the other. A link ends the look: the path goes on behind it.
class LinkFollower {
public:
    explicit LinkFollower(const Tree& tree) : tree_(tree) {}

    Result<> follow(const std::string& first) {
        std::vector<std::string> open = {relative(first)};
        while (!open.empty()) {
            const std::string path = std::move(open.back());
            open.pop_back();
            TRY(walk(path, open));
        }
        return {};
    }
    std::set<std::string> kept;

private:
    Result<> walk(const std::string& path, std::vector<std::string>& open) {
        if (path.empty()) {
            kept.insert("");
            return {};
        }
        std::size_t end = 0;
        while (end != std::string::npos) {
            end = path.find('/', end == 0 ? 0 : end + 1);
            const std::string current = path.substr(0, end);
            const auto targets = TRY(targets_of(current));
            const bool last = end == std::string::npos;
            if (!last && targets.empty()) continue;
            if (!kept.insert(current).second) return {};
            if (kept.size() > kMaxFollowed) return bad_input("more than {} links to follow", kMaxFollowed);
            const std::string rest = last ? "" : path.substr(end);
            for (const std::string& target : targets) open.push_back(relative(target + rest));
            return {};
        }
        return {};
    }

    // Where the links lead that the last component of path names.
    Result<std::vector<std::string>> targets_of(const std::string& path) {
        std::vector<std::string> targets;
        const std::string dir = path.contains('/') ? path.substr(0, path.rfind('/')) : "";
        const std::string base(codec::base_name(path));
        if (!codec::has_wildcard(base)) {
            TRY(add_target(dir, base, targets));
            return targets;
        }
        const auto found = TRY(tree_.find(dir, FollowLast::no));
        if (!found || found->node.kind != Kind::directory) return targets;
        const auto directory = TRY(tree_.open_dir(*found));
        for (const auto& entry : TRY(directory->list())) {
            const auto matches = codec::path_match(base, entry.name);
            if (matches && *matches) TRY(add_target(dir, entry.name, targets));
        }
        return targets;
    }

    Result<> add_target(const std::string& dir, const std::string& name, std::vector<std::string>& targets) {
        const auto found = TRY(tree_.find(dir + "/" + name, FollowLast::no));
        if (!found || found->node.kind != Kind::symlink) return {};
        const std::string target = TRY(found->parent->read_link(found->name, found->node));
        targets.push_back(target.starts_with('/') ? target : "/" + dir + "/" + target);
        return {};
    }

    const Tree& tree_;
};

}  // namespace

Result<std::vector<std::string>> follow_links(const Tree& tree, const std::vector<std::string>& paths) {
    LinkFollower follower(tree);
    for (const std::string& path : paths) TRY_CONTEXT(follower.follow(path), "follow {}", path);
    std::vector<std::string> patterns;
    if (follower.kept.contains("")) return patterns;
    for (const std::string& path : follower.kept) {
        const bool covered = std::any_of(patterns.begin(), patterns.end(),
                                         [&](const std::string& above) { return path.starts_with(above + "/"); });
        if (!covered) patterns.push_back(path);
    }
    return patterns;
}

Result<snapshot::TreeRef> open_local_tree(const std::string& host_path, const LocalPatterns& patterns) {
    snapshot::LiveDirOptions options{.exclude = patterns.exclude, .include = patterns.include, .modes = patterns.modes};
    if (!patterns.follow_paths.empty()) {
        const auto whole = TRY(snapshot::LiveDir::create(TRY(sys::RootedDir::open_host(host_path)), {}));
        for (std::string& pattern : TRY(follow_links(*whole, patterns.follow_paths))) {
            options.include.push_back(std::move(pattern));
        }
    }
    return snapshot::TreeRef(TRY(snapshot::LiveDir::create(TRY(sys::RootedDir::open_host(host_path)), options)));
}

}  // namespace cooper::filesync
