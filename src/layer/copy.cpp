#include "layer/copy.hpp"

#include "base/text.hpp"
#include "codec/path_match.hpp"
#include "codec/pattern_matcher.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <thread>
#include <unordered_map>

namespace cooper::layer {

namespace {

using codec::PatternMatcher;
using snapshot::Directory;
using snapshot::DirectoryRef;
using snapshot::FollowLast;
using snapshot::Kind;
using snapshot::LayerBuilder;
using snapshot::Meta;
using snapshot::Node;
using snapshot::TreeRef;
using snapshot::WritableDir;
using snapshot::WritableDirRef;

constexpr int kMaxDepth = 1000;
constexpr std::size_t kJobFiles = 64;
constexpr std::size_t kMaxQueuedJobs = 16;

std::string child_path(const std::string& dir, const std::string& name) {
    return dir == "/" ? "/" + name : dir + "/" + name;
}

std::uint64_t next_operation() {
    static std::atomic<std::uint64_t> counter{0};
    return ++counter;
}

// What one copy works with. The walk runs on the caller's thread; regular files go to the crew.
struct Job {
    DirectoryRef from;
    DirectoryRef earlier;  // the same directory of the earlier result, or null
    WritableDirRef to;
    struct File {
        std::string name;
        std::string target;
        Node node;
        std::optional<RawDigest> digest;           // when it was hashed
        const DigestTable::Entry* same = nullptr;  // the earlier copy's entry, when nothing changed since
    };
    std::vector<File> files;
};

class Copier {
public:
    Copier(const TreeRef& source, LayerBuilder& target, const CopyOptions& options, Stop stop)
        : source_(source), target_(target), options_(options), stop_(std::move(stop)), operation_(next_operation()) {}
    ~Copier() {
        shared_.lock()->closing = true;
        shared_.notify_all();
    }
    Copier(const Copier&) = delete;
    Copier& operator=(const Copier&) = delete;

    Result<> prepare() {
        include_ = TRY_CONTEXT(PatternMatcher::create(options_.include), "invalid includepatterns");
        exclude_ = TRY_CONTEXT(PatternMatcher::create(options_.exclude), "invalid excludepatterns");
        if (!options_.mode_text.empty()) TRY(apply_mode_text(options_.mode_text, 0644, false));
        return {};
    }

    // One source, which may be the match of a wildcard.
    Result<> copy_source(const std::string& source) {
        const TreeRef view = target_.view();
        std::string ensure = options_.destination;
        const std::size_t slash = ensure.rfind('/');
        const std::string last = slash == std::string::npos ? ensure : ensure.substr(slash + 1);
        if (!last.empty() && last != ".") ensure.resize(slash == std::string::npos ? 0 : slash + 1);
        if (!ensure.empty()) {
            const std::string wanted = TRY(view->resolve(ensure));
            TRY(make_parents(wanted));
        }
        std::string destination = TRY(view->resolve(codec::rooted_path(options_.destination)));

        const auto found =
            TRY(source_->find(codec::rooted_path(source), options_.follow_symlink ? FollowLast::yes : FollowLast::no));
        if (!found) {
            return fail(Code::not_found, Blame::user, "{}: no such file or directory", codec::rooted_path(source));
        }
        const bool source_is_dir = found->node.kind == Kind::directory;
        const auto existing = TRY(view->find(destination, FollowLast::yes));
        const bool contents = options_.dir_copy_contents && source_is_dir;
        if (existing && ((source_is_dir && !contents) || (!source_is_dir && existing->node.kind == Kind::directory))) {
            const std::string base(codec::base_name(codec::rooted_path(source)));
            if (base != "/") destination = child_path(destination, base);
        }
        std::string parent(codec::dir_name(destination));
        if (contents && !existing) parent = destination;
        WritableDirRef into = TRY(make_parents(parent));

        if (destination == "/") {
            if (!source_is_dir) return bad_input("cannot replace the root directory with a file");
            const DirectoryRef from = TRY(source_->open_dir(*found));
            TRY(copy_children(from, found->path, "", into, {}, {}, 0));
            return finish();
        }
        if (parent == destination) into = TRY(target_.open_dir(codec::dir_name(destination)));
        const std::string name(codec::base_name(destination));
        if (source_is_dir) {
            const DirectoryRef from = TRY(source_->open_dir(*found));
            TRY(copy_top_directory(from, found->path, into, name));
        } else {
            std::vector<TreeDigester::HashedFile> hashed = hashed_files(std::string(codec::dir_name(found->path)));
            Job job{.from = found->parent, .to = into};
            job.earlier = TRY(earlier_dir(into->path()));
            TRY(copy_leaf(job, found->name, name, found->node, hashed, found->path));
            if (!job.files.empty()) TRY(submit(std::move(job)));
        }
        return finish();
    }

private:
    // --- metadata ---
    Result<std::uint32_t> mode_of(std::uint32_t mode, bool is_directory) const {
        if (!options_.mode_text.empty()) return apply_mode_text(options_.mode_text, mode, is_directory);
        if (options_.mode >= 0) return static_cast<std::uint32_t>(options_.mode) & 07777U;
        return mode;
    }
    Result<Meta> meta_of(const Node& node) const {
        Meta meta{.uid = node.uid, .gid = node.gid, .mode = node.mode, .mtime_ns = node.mtime_ns};
        if (options_.owner) {
            meta.uid = options_.owner->uid;
            meta.gid = options_.owner->gid;
        }
        if (node.kind != Kind::symlink) meta.mode = TRY(mode_of(node.mode, node.kind == Kind::directory));
        if (options_.timestamp_ns) meta.mtime_ns = options_.timestamp_ns;
        return meta;
    }
    // Parents that the copy makes: 0755, or the very mode asked for in numbers.
    Result<WritableDirRef> make_parents(const std::string& path) {
        Meta meta{.mode = 0755, .mtime_ns = options_.timestamp_ns};
        if (options_.owner) {
            meta.uid = options_.owner->uid;
            meta.gid = options_.owner->gid;
        }
        if (options_.mode_text.empty() && options_.mode >= 0)
            meta.mode = static_cast<std::uint32_t>(options_.mode) & 07777U;
        return target_.make_dirs(path, meta, nullptr);
    }

    // --- patterns ---
    struct Matched {
        PatternMatcher::ParentResults include;
        PatternMatcher::ParentResults exclude;
    };
    bool included(const std::string& path, const Matched& parent, Matched& mine) const {
        bool in = include_.empty() || include_.matches(path, parent.include, mine.include);
        if (!exclude_.empty() && exclude_.matches(path, parent.exclude, mine.exclude)) in = false;
        return in;
    }
    // Whether anything below a directory that is out can be in.
    bool may_hold_included(const std::string& path) const {
        if (!include_.empty() && !include_.matches_or_parent_matches(path) && !include_.may_match_below(path))
            return false;
        return exclude_.empty() || !exclude_.matches_or_parent_matches(path) ||
               (exclude_.has_exceptions() && exclude_.may_except_below(path));
    }

    // --- directories ---
    // A directory that is made only when something in it is copied.
    struct Late {
        DirectoryRef from;
        WritableDirRef parent;  // null: the Late above
        std::string name;
        WritableDirRef made;
    };

    Result<WritableDirRef> directory_at(const WritableDirRef& parent, const std::string& name, const Directory& from,
                                        bool whole) {
        auto existing = TRY(parent->find(name));
        if (existing && existing->kind != Kind::directory && options_.always_replace) {
            TRY(parent->remove(name));
            existing.reset();
        }
        if (existing && existing->kind != Kind::directory) {
            return bad_input("cannot copy to non-directory: {}", child_path(parent->path(), name));
        }
        Meta meta = TRY(meta_of(from.self()));
        meta.xattrs = TRY(from.self_xattrs());
        if (!existing) return parent->make_dir(name, meta);
        WritableDirRef dir = TRY(parent->open_dir(name));
        if (whole) TRY(dir->set_meta(meta));
        return dir;
    }

    Result<> copy_top_directory(const DirectoryRef& from, const std::string& from_path, const WritableDirRef& parent,
                                const std::string& name) {
        const std::string path = child_path(parent->path(), name);
        auto existing = TRY(parent->find(name));
        if (existing && existing->kind != Kind::directory && options_.always_replace) {
            TRY(parent->remove(name));
            existing.reset();
        }
        WritableDirRef dir;
        if (existing) {
            if (existing->kind != Kind::directory) return bad_input("cannot copy to non-directory: {}", path);
            dir = TRY(parent->open_dir(name));
            // An existing top directory keeps its owner and mode, and takes the source's time.
            TRY(dir->set_mtime(options_.timestamp_ns.value_or(from->self().mtime_ns)));
        } else {
            Meta meta = TRY(meta_of(from->self()));
            meta.xattrs = TRY(from->self_xattrs());
            dir = TRY(parent->make_dir(name, meta));
        }
        return copy_children(from, from_path, "", dir, {}, {}, 0);
    }

    // late: directories above that are not made yet, outermost first; to is null then.
    Result<> copy_children(const DirectoryRef& from, const std::string& from_path, const std::string& relative,
                           WritableDirRef to, std::vector<Late*> late, const Matched& matched, int depth) {
        TRY(check_stop(stop_));
        if (depth > kMaxDepth) return bad_input("{}: directories nest too deep", from_path);
        const bool filters = !include_.empty() || !exclude_.empty();
        const auto entries = TRY(from->list());
        const auto hashed = hashed_files(from_path);
        Job job{.from = from};
        for (const auto& entry : entries) {
            const std::string path = relative.empty() ? entry.name : relative + "/" + entry.name;
            Matched mine;
            const bool in = !filters || included(path, matched, mine);
            if (entry.kind == Kind::directory) {
                if (!in && !may_hold_included(path)) continue;
                const DirectoryRef child = TRY(from->open_dir(entry.name));
                if (in) {
                    TRY(make_late(late, to));
                    WritableDirRef made = TRY(directory_at(to, entry.name, *child, true));
                    TRY(copy_children(child, child_path(from_path, entry.name), path, made, {}, mine, depth + 1));
                } else {
                    Late mine_late{.from = child, .parent = to, .name = entry.name};
                    std::vector<Late*> chain = to ? std::vector<Late*>() : late;
                    chain.push_back(&mine_late);
                    TRY(copy_children(child, child_path(from_path, entry.name), path, nullptr, chain, mine, depth + 1));
                    if (!to && !late.empty() && late.back()->made) to = late.back()->made;
                }
                continue;
            }
            if (!in) continue;
            TRY(make_late(late, to));
            job.to = to;
            if (!job.earlier) job.earlier = TRY(earlier_dir(to->path()));
            if (auto settled = settled_file(hashed, to->path(), entry)) {
                job.files.push_back(std::move(*settled));
            } else {
                const Node node = TRY_CONTEXT(from->stat(entry), "{}", from_path);
                TRY(copy_leaf(job, entry.name, entry.name, node, hashed, child_path(from_path, entry.name)));
            }
            if (job.files.size() >= kJobFiles) {
                Job full{.from = from, .earlier = job.earlier, .to = to};
                full.files.swap(job.files);
                TRY(submit(std::move(full)));
            }
        }
        if (!job.files.empty()) TRY(submit(std::move(job)));
        return {};
    }

    Result<> make_late(const std::vector<Late*>& late, WritableDirRef& to) {
        if (to) return {};
        WritableDirRef parent;
        for (Late* one : late) {
            if (!one->made)
                one->made = TRY(directory_at(one->parent ? one->parent : parent, one->name, *one->from, false));
            parent = one->made;
        }
        to = parent;
        return {};
    }

    // --- files ---
    // Regular files are put into the job; all else is copied here and now.
    Result<> copy_leaf(Job& job, const std::string& name, const std::string& target, const Node& node,
                       const std::vector<TreeDigester::HashedFile>& hashed, const std::string& from_path) {
        std::optional<RawDigest> digest;
        if (!hashed.empty()) {
            const auto known = std::lower_bound(hashed.begin(), hashed.end(), name,
                                                [](const auto& file, const std::string& n) { return file.name < n; });
            if (known != hashed.end() && known->name == name) {
                const Node& then = known->node;
                if (then.size != node.size || then.mtime_ns != node.mtime_ns || then.ctime_ns != node.ctime_ns ||
                    then.inode != node.inode || then.kind != node.kind) {
                    return changed(from_path);
                }
                digest = known->digest;
            }
        }
        if (node.kind == Kind::file) {
            Job::File file{.name = name, .target = target, .node = node, .digest = digest};
            if (digest) file.same = earlier_entry(job.to->path(), target, node, *digest);
            job.files.push_back(std::move(file));
            return {};
        }
        Meta meta = TRY(meta_of(node));
        meta.xattrs = TRY(job.from->xattrs(name, node));
        if (options_.manifest != nullptr) options_.manifest->forget(job.to->path(), target);
        if (node.kind == Kind::symlink) {
            const std::string link = TRY(job.from->read_link(name, node));
            return put(job, target, [&] { return job.to->put_symlink(target, link, meta); });
        }
        return put(job, target, [&] { return job.to->put_special(target, node.kind, node.rdev, meta); });
    }

    // A file whose hashed content the earlier result already holds: it is linked from there, so whatever happened to
    // the original since it was hashed does not matter, and it need not be looked at again.
    std::optional<Job::File> settled_file(const std::vector<TreeDigester::HashedFile>& hashed,
                                          const std::string& target_dir, const snapshot::Entry& entry) {
        if (options_.earlier == nullptr || entry.kind != Kind::file) return std::nullopt;
        const auto known = std::lower_bound(hashed.begin(), hashed.end(), entry.name,
                                            [](const auto& file, const std::string& n) { return file.name < n; });
        if (known == hashed.end() || known->name != entry.name) return std::nullopt;
        const Node& node = known->node;
        if (node.kind != Kind::file || node.links > 1) return std::nullopt;
        const auto* same = earlier_entry(target_dir, entry.name, node, known->digest);
        if (same == nullptr) return std::nullopt;
        return Job::File{.name = entry.name, .target = entry.name, .node = node, .digest = known->digest, .same = same};
    }

    static Error changed(const std::string& path) {
        return fail(Code::aborted, Blame::user, "{}: file changed while the build was reading it", path)
            .with_hint("run the build again when nothing writes to the build context");
    }

    // The earlier copy's entry for a target, when it is what would be written now.
    const DigestTable::Entry* earlier_entry(const std::string& dir_path, const std::string& name, const Node& node,
                                            const RawDigest& digest) {
        if (options_.earlier == nullptr || node.links > 1) return nullptr;
        const DigestTable& manifest = options_.earlier->manifest;
        if (manifest_path_ != dir_path) {
            manifest_path_ = dir_path;
            manifest_dir_ = manifest.find_dir(dir_path);
        }
        if (manifest_dir_ == nullptr) return nullptr;
        const auto entries = manifest.entries_of(*manifest_dir_).subspan(1);
        const auto at = std::lower_bound(entries.begin(), entries.end(), name,
                                         [&](const auto& entry, const auto& n) { return manifest.name_of(entry) < n; });
        if (at == entries.end() || manifest.name_of(*at) != name || at->digest != digest || at->inode != 1)
            return nullptr;
        const auto meta = meta_of(node);
        const bool same = meta && at->mode == meta->mode && at->mtime_ns == meta->mtime_ns && at->size == node.size &&
                          at->device == (std::uint64_t{meta->uid} << 32U | meta->gid);
        return same ? &*at : nullptr;
    }

    Result<DirectoryRef> earlier_dir(const std::string& path) {
        if (options_.earlier == nullptr) return DirectoryRef();
        const auto found = TRY(options_.earlier->layer->find(path, FollowLast::no));
        if (!found || found->node.kind != Kind::directory) return DirectoryRef();
        return options_.earlier->layer->open_dir(*found);
    }

    // Whether the copy would have the very metadata of the original.
    [[nodiscard]] bool may_link(const Node& node) const {
        const auto meta = meta_of(node);
        return meta && meta->uid == node.uid && meta->gid == node.gid && meta->mode == node.mode &&
               meta->mtime_ns == node.mtime_ns;
    }

    // A file with several names that must be copied: the first copy gets the other names too.
    Result<> copy_hard_link(const Job& job, const Job::File& file) {
        const auto key = std::make_pair(job.from->link_domain(file.node), file.node.inode);
        auto links = hard_links_.lock();  // held while copying: the other names wait
        const auto known = links->find(key);
        if (known != links->end()) {
            const WritableDirRef dir = TRY(target_.open_dir(known->second.first));
            return put(job, file.target,
                       [&] { return job.to->put_hard_link(file.target, *dir, known->second.second); });
        }
        TRY(copy_plain(job, file));
        links->emplace(key, std::make_pair(job.to->path(), file.target));
        return {};
    }

    Result<> copy_file(const Job& job, const Job::File& file) {
        if (!job.to->fresh()) TRY(clear_way(*job.to, file.target));
        if (file.same != nullptr && job.earlier && TRY(link_earlier(job, file))) return {};
        const int link_fd = job.from->link_fd(file.node);
        if (link_fd >= 0 && may_link(file.node)) {
            const bool linked = TRY(put_value(job, file.target, [&] {
                return job.to->put_link(file.target, link_fd, file.name, file.node, job.from->link_domain(file.node),
                                        operation_);
            }));
            if (linked) return {};
        }
        return file.node.links > 1 ? copy_hard_link(job, file) : copy_plain(job, file);
    }

    Result<> copy_plain(const Job& job, const Job::File& file) {
        Meta meta = TRY(meta_of(file.node));
        const sys::Fd fd = TRY(job.from->open_file(file.name, file.node));
        struct stat st{};
        if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, file.name);
        const Node now = snapshot::node_from_stat(st);
        if (now.kind != Kind::file || now.mtime_ns != file.node.mtime_ns || now.size != file.node.size) {
            return changed(child_path(job.to->path(), file.target));
        }
        meta.xattrs = TRY(snapshot::read_xattrs(fd.get()));
        const std::uint64_t size =
            TRY(put_value(job, file.target, [&] { return job.to->put_file(file.target, fd.get(), meta); }));
        if (size != file.node.size) return changed(child_path(job.to->path(), file.target));
        return {};
    }

    Result<bool> link_earlier(const Job& job, const Job::File& file) {
        // The manifest knows all of it, and that it has one name: no inode to compare.
        const Node node{.size = file.node.size};
        const int fd = job.earlier->link_fd(node);
        if (fd < 0) return false;
        return put_value(job, file.target,
                         [&] { return job.to->put_link(file.target, fd, file.target, node, 0, operation_); });
    }

    // A file or link in the way goes; a directory only when asked for.
    Result<> clear_way(WritableDir& dir, const std::string& name) const {
        const auto existing = TRY(dir.find(name));
        if (!existing) return {};
        if (existing->kind == Kind::directory && !options_.always_replace) {
            return bad_input("cannot replace to directory {} with file", child_path(dir.path(), name));
        }
        return dir.remove(name);
    }

    template <class Put>
    auto put_value(const Job& job, const std::string& name, Put put_it) -> decltype(put_it()) {
        auto result = put_it();
        if (result || result.error().code() != Code::already_exists) return result;
        if (auto cleared = clear_way(*job.to, name); !cleared) return cleared.error();
        return put_it();
    }
    template <class Put>
    Result<> put(const Job& job, const std::string& name, Put put_it) {
        if (!job.to->fresh()) TRY(clear_way(*job.to, name));
        return put_value(job, name, put_it);
    }

    std::vector<TreeDigester::HashedFile> hashed_files(const std::string& dir_path) {
        if (options_.hashed == nullptr) return {};
        return options_.hashed->hashed_files(dir_path);
    }

    // --- the crew ---
    Result<> submit(Job job) {
        if (helpers_.size() + 1 < options_.threads) helpers_.emplace_back([this] { help(); });
        bool full = false;
        {
            auto shared = shared_.lock();
            if (shared->error) return *shared->error;
            full = helpers_.empty() || shared->jobs.size() >= kMaxQueuedJobs;
            if (!full) shared->jobs.push_back(std::move(job));
        }
        if (full) {
            run(job);
        } else {
            shared_.notify_one();
        }
        return {};
    }

    void run(const Job& job) {
        std::vector<CopyManifest::File> done;
        for (const auto& file : job.files) {
            Result<> result = check_stop(stop_);
            if (result) result = copy_file(job, file);
            if (result && options_.manifest != nullptr) {
                if (file.digest) {
                    remember(file, done);
                } else {
                    options_.manifest->forget(job.to->path(), file.target);
                }
            }
            if (result) continue;
            auto shared = shared_.lock();
            if (!shared->error) shared->error = result.error();
            return;
        }
        if (!done.empty()) options_.manifest->add(job.to->path(), std::move(done));
    }

    void remember(const Job::File& file, std::vector<CopyManifest::File>& done) const {
        const auto meta = meta_of(file.node);
        if (!meta) return;
        done.push_back({.name = file.target,
                        .digest = *file.digest,
                        .size = file.node.size,
                        .uid = meta->uid,
                        .gid = meta->gid,
                        .mode = meta->mode,
                        .mtime_ns = *meta->mtime_ns,
                        .only_name = file.node.links == 1});
    }

    void help() noexcept {
        while (true) {
            std::optional<Job> job;
            {
                auto shared = shared_.lock();
                shared.wait([&] { return shared->closing || !shared->jobs.empty(); });
                if (shared->jobs.empty()) return;
                job = std::move(shared->jobs.front());
                shared->jobs.pop_front();
                ++shared->running;
            }
            run(*job);
            job.reset();
            --shared_.lock()->running;
            shared_.notify_all();
        }
    }

    Result<> finish() {
        while (true) {
            std::optional<Job> job;
            {
                auto shared = shared_.lock();
                if (shared->jobs.empty()) break;
                job = std::move(shared->jobs.front());
                shared->jobs.pop_front();
            }
            run(*job);
        }
        auto shared = shared_.lock();
        shared.wait([&] { return shared->running == 0; });
        if (shared->error) return *shared->error;
        return {};
    }

    struct PairHash {
        std::size_t operator()(const std::pair<std::uint64_t, std::uint64_t>& key) const {
            return std::hash<std::uint64_t>()(key.first * 0x9E3779B97F4A7C15ULL ^ key.second);
        }
    };
    struct Shared {
        std::deque<Job> jobs;
        int running = 0;
        bool closing = false;
        std::optional<Error> error;
    };

    const TreeRef& source_;
    LayerBuilder& target_;
    const CopyOptions& options_;
    Stop stop_;
    std::uint64_t operation_;
    PatternMatcher include_;
    PatternMatcher exclude_;
    using HardLinks =
        std::unordered_map<std::pair<std::uint64_t, std::uint64_t>, std::pair<std::string, std::string>, PairHash>;
    Guarded<HardLinks> hard_links_;  // where the first copy of a file with several names is
    std::string manifest_path_;
    const DigestTable::Dir* manifest_dir_ = nullptr;
    Guarded<Shared> shared_;
    std::vector<std::jthread> helpers_;  // last: joined first
};

// Collects the matches below a directory; links are not entered, a matched directory is not searched.
Result<> match_below(const Directory& dir, const std::string& path, const std::string& relative,
                     const std::string& pattern, int depth, std::vector<std::string>& out) {
    if (depth > kMaxDepth) return bad_input("{}: directories nest too deep", path);
    const auto components = std::count(pattern.begin(), pattern.end(), '/') + 1;
    const bool depth_is_fixed = pattern.find('[') == std::string::npos;  // a class could match '/'
    for (const auto& entry : TRY(dir.list())) {
        const std::string name = relative.empty() ? entry.name : relative + "/" + entry.name;
        const auto match = codec::path_match(pattern, name);
        if (match && *match) {
            out.push_back(child_path(path, entry.name));
        } else if (entry.kind == Kind::directory && !(depth_is_fixed && depth + 1 >= components)) {
            const DirectoryRef child = TRY(dir.open_dir(entry.name));
            TRY(match_below(*child, child_path(path, entry.name), name, pattern, depth + 1, out));
        }
    }
    return {};
}

}  // namespace

Result<std::vector<std::string>> resolve_wildcards(const snapshot::Tree& tree, const std::string& source,
                                                   FollowLast follow) {
    const auto split = codec::split_wildcard(codec::rooted_path(source));
    std::vector<std::string> matches;
    if (split.pattern.empty()) {
        matches.push_back(split.fixed);
        return matches;
    }
    const auto base = TRY(tree.find(split.fixed, follow));
    if (!base) return fail(Code::not_found, Blame::user, "{}: no such file or directory", split.fixed);
    if (base->node.kind != Kind::directory) return matches;
    const DirectoryRef dir = TRY(tree.open_dir(*base));
    TRY(match_below(*dir, base->path, "", split.pattern, 0, matches));
    return matches;
}

Result<> copy(const TreeRef& source, LayerBuilder& target, const CopyOptions& options, Stop stop) {
    if (!options.create_dest_path) {
        const std::string path = TRY(target.view()->resolve(codec::rooted_path(options.destination)));
        if (!TRY(target.view()->find(codec::dir_name(path), FollowLast::no))) {
            return fail(Code::not_found, Blame::user, "failed to stat {}: no such file or directory",
                        options.destination);
        }
    }
    std::vector<std::string> sources{options.source};
    if (options.allow_wildcard) {
        sources =
            TRY(resolve_wildcards(*source, options.source, options.follow_symlink ? FollowLast::yes : FollowLast::no));
        if (sources.empty()) {
            if (options.allow_empty_wildcard) return {};
            return fail(Code::not_found, Blame::user, "{} not found", options.source);
        }
    }
    for (const auto& one : sources) {
        Copier copier(source, target, options, stop);
        TRY(copier.prepare());
        TRY(copier.copy_source(one));
    }
    return {};
}

Result<> materialize(const TreeRef& source, LayerBuilder& target, TreeDigester* hashed, Stop stop) {
    const CopyOptions options{
        .source = "/", .destination = "/", .dir_copy_contents = true, .create_dest_path = true, .hashed = hashed};
    TRY(copy(source, target, options, std::move(stop)));
    const DirectoryRef from = TRY(source->root());
    const WritableDirRef root = TRY(target.root());
    const Node& node = from->self();
    Meta meta{.uid = node.uid, .gid = node.gid, .mode = node.mode, .mtime_ns = node.mtime_ns};
    meta.xattrs = TRY(from->self_xattrs());
    return root->set_meta(meta);
}

}  // namespace cooper::layer
