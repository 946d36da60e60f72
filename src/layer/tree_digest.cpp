#include "layer/tree_digest.hpp"

#include "base/text.hpp"
#include "codec/path_match.hpp"
#include "codec/pattern_matcher.hpp"
#include "codec/sha256.hpp"
#include "layer/file_record.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <thread>
#include <unordered_map>

namespace cooper::layer {

namespace {

using codec::PatternMatcher;
using snapshot::DirectoryRef;
using snapshot::FollowLast;
using snapshot::Kind;
using snapshot::Node;

constexpr int kMaxDepth = 1000;
constexpr std::size_t kJobFiles = 64;       // files per unit of hashing work
constexpr std::size_t kMaxQueuedJobs = 32;  // each holds its directory open
// Times closer than this to the scan may hide a later write: the kernel's clock for files ticks every 4 or 10 ms.
constexpr std::int64_t kRacyNs = 20'000'000;
constexpr std::size_t kMaxCarriedEntries = 2'000'000;

std::int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::string child_path(const std::string& dir, const std::string& name) {
    return dir == "/" ? "/" + name : dir + "/" + name;
}

Digest to_digest(const RawDigest& raw) { return Digest::sha256_from_raw(raw); }

// "sha256:<hex>" without allocation: one per file of a tree.
void hash_digest_text(codec::Sha256& hash, const RawDigest& raw) {
    static constexpr std::string_view kHex = "0123456789abcdef";
    std::array<char, 71> text{'s', 'h', 'a', '2', '5', '6', ':'};
    for (std::size_t i = 0; i < raw.size(); ++i) {
        text[7 + 2 * i] = kHex[raw[i] >> 4U];
        text[8 + 2 * i] = kHex[raw[i] & 15U];
    }
    hash.update(std::string_view(text.data(), text.size()));
}

RawDigest raw_of(const Digest& digest) {
    RawDigest out{};
    std::copy_n(digest.raw().begin(), out.size(), out.begin());
    return out;
}

bool has_filters(const ContentSelector& selector) {
    return selector.wildcard || !selector.include.empty() || !selector.exclude.empty() || !selector.required.empty();
}

Error not_found(std::string_view path) { return fail(Code::not_found, Blame::user, "{}: not found", quoted(path)); }

struct Record {
    std::string name;
    Kind kind = Kind::file;
    bool known = false;     // digest holds
    bool has_stat = false;  // node holds
    std::uint32_t origin = 0;
    RawDigest digest{};
    Node node;
    // Of what counts with its usual node: the record of the same name as it is. And there, what was found that way.
    Record* as_it_is = nullptr;
    std::optional<RawDigest> usual;
    std::uint32_t usual_mode = 0;
    bool usual_owner = false;
};

struct DirRecord {
    std::string path;
    DirectoryRef dir;  // open only while a digest is computed
    Record self;       // its own record
    bool listed = false;
    bool digest_known = false;
    RawDigest digest{};
    std::vector<Record> entries;  // sorted by name

    Record* find(std::string_view name) {
        const auto at = std::lower_bound(entries.begin(), entries.end(), name,
                                         [](const Record& record, std::string_view n) { return record.name < n; });
        return at == entries.end() || at->name != name ? nullptr : &*at;
    }
};

}  // namespace

struct TreeDigester::State {
    snapshot::TreeRef tree;
    std::size_t threads = 1;
    DigestTable known;
    std::int64_t started_ns = 0;
    bool learnt = false;
    Counters counters;
    std::unordered_map<std::string, std::unique_ptr<DirRecord>> dirs;
    std::map<std::string, Record> loose;  // single files whose directory was not listed, by path
    // Set: everything counts with the mode and owner of its usual node, and this is what is known of the tree as it is.
    State* plain = nullptr;
    Replacement replacement;
    // And here, what was read for such digests, now and earlier; of trees that may change only.
    std::function<DigestTable()> load_usual;
    std::optional<DigestTable> usual_known;
    bool usual_learnt = false;

    struct Job {
        DirectoryRef dir;
        std::vector<Record*> records;
    };
    class Crew;

    explicit State(snapshot::TreeRef t) : tree(std::move(t)) {}
    State(State& as_it_is, const Replacement& what)
        : tree(as_it_is.tree), threads(as_it_is.threads), plain(&as_it_is), replacement(what) {}

    // --- the same tree with the usual modes and owners ---
    // Of a record that has its stat: the digest that is known holds when nothing is replaced.
    void make_usual(Record& record) const {
        if (plain == nullptr) return;
        const Node usual = usual_node(replacement, record.node);
        const bool same =
            usual.mode == record.node.mode && usual.uid == record.node.uid && usual.gid == record.node.gid;
        const Record* seen = record.as_it_is;
        if (same && seen != nullptr && seen->known) {
            record.digest = seen->digest;
            record.known = true;
        } else if (seen != nullptr && seen->usual && seen->usual_mode == usual.mode &&
                   seen->usual_owner == replacement.owner) {
            record.digest = *seen->usual;
            record.known = true;
        }
        record.node = usual;
    }
    // What is known of an entry as it is. A directory that may change is never looked at a second time: both digests
    // are of one state of it.
    Record borrow(Record& from) const {
        Record record{
            .name = from.name, .kind = from.kind, .has_stat = from.has_stat, .origin = from.origin, .node = from.node};
        record.as_it_is = &from;
        if (record.has_stat) make_usual(record);
        return record;
    }
    Record loose_record(const snapshot::Found& found) const {
        if (plain != nullptr) {
            const auto dir = plain->dirs.find(std::string(codec::dir_name(found.path)));
            if (dir != plain->dirs.end()) {
                Record* entry = dir->second->find(found.name);
                if (entry != nullptr && entry->known) return borrow(*entry);
            }
            const auto alone = plain->loose.find(found.path);
            if (alone != plain->loose.end()) return borrow(alone->second);
        }
        return {.name = found.name, .kind = found.node.kind};
    }

    // --- what is remembered ---
    // Takes digest and stat from the table when they may be believed.
    bool recall(const DigestTable::Entry& entry, Record& record) {
        if ((entry.flags & DigestTable::kEntryKnown) == 0) return false;
        if (!tree->immutable()) {
            const Node& node = record.node;
            const auto mode = node.mode | (static_cast<std::uint32_t>(node.kind) << 16U);
            if ((entry.flags & DigestTable::kEntryStat) == 0 || entry.inode != node.inode ||
                entry.device != node.device || entry.mtime_ns != node.mtime_ns || entry.ctime_ns != node.ctime_ns ||
                entry.size != node.size || entry.mode != mode) {
                return false;
            }
            if (std::max(entry.mtime_ns, entry.ctime_ns) >= known.scanned_ns - kRacyNs) return false;
        }
        record.digest = entry.digest;
        record.known = true;
        return true;
    }

    const DigestTable::Entry* known_entry(const std::string& dir_path, std::string_view name) const {
        const auto* dir = known.find_dir(dir_path);
        if (dir == nullptr) return nullptr;
        const auto entries = known.entries_of(*dir).subspan(name == "." ? 0 : 1);
        if (name == ".") return &entries.front();
        const auto at = std::lower_bound(entries.begin(), entries.end(), name,
                                         [&](const auto& entry, auto wanted) { return known.name_of(entry) < wanted; });
        return at != entries.end() && known.name_of(*at) == name ? &*at : nullptr;
    }

    // --- directories ---
    DirRecord& dir_record(const std::string& path) {
        auto& slot = dirs[path];
        if (!slot) {
            slot = std::make_unique<DirRecord>();
            slot->path = path;
            slot->self.name = ".";
            slot->self.kind = Kind::directory;
        }
        return *slot;
    }

    Result<> open(DirRecord& record, DirectoryRef dir) {
        if (record.dir) return {};
        if (!dir) {
            const auto found = TRY(tree->find(record.path, FollowLast::no));
            if (!found) return not_found(record.path);
            dir = TRY(tree->open_dir(*found));
        }
        record.dir = std::move(dir);
        record.self.node = record.dir->self();
        if (plain != nullptr) {
            const DirRecord& as_it_is = plain->dir_record(record.path);
            if (as_it_is.self.has_stat) record.self.node = as_it_is.self.node;
        }
        make_usual(record.self);
        record.self.has_stat = true;
        return {};
    }

    // The names of a directory; stat and digests come later.
    Result<> list(DirRecord& record, const DirectoryRef& dir) {
        if (record.listed) return {};
        if (plain != nullptr) {
            DirRecord& as_it_is = plain->dir_record(record.path);
            TRY(plain->list(as_it_is, dir));
            record.entries.reserve(as_it_is.entries.size());
            for (Record& entry : as_it_is.entries) record.entries.push_back(borrow(entry));
            record.listed = true;
            return {};
        }
        const auto* remembered = known.find_dir(record.path);
        if (tree->immutable() && remembered != nullptr && (remembered->flags & DigestTable::kDirListed) != 0) {
            for (const auto& entry : known.entries_of(*remembered).subspan(1)) {
                Record child{.name = std::string(known.name_of(entry)), .kind = static_cast<Kind>(entry.mode >> 16U)};
                recall(entry, child);
                record.entries.push_back(std::move(child));
            }
            record.listed = true;
            return {};
        }
        TRY(open(record, dir));
        ++counters.dirs_listed;
        auto names = TRY(record.dir->list());
        record.entries.reserve(names.size());
        for (auto& entry : names) {
            record.entries.push_back({.name = std::move(entry.name), .kind = entry.kind, .origin = entry.origin});
        }
        if (tree->immutable()) learnt = true;
        record.listed = true;
        return {};
    }

    Result<> look_at(DirRecord& dir, Record& record) {
        if (record.has_stat) return {};
        TRY(open(dir, nullptr));
        ++counters.stats;
        record.node = TRY(dir.dir->stat({.name = record.name, .kind = record.kind, .origin = record.origin}));
        record.kind = record.node.kind;
        record.has_stat = true;
        make_usual(record);
        return {};
    }

    Result<> ensure_header(DirRecord& record) {
        if (record.self.known) return {};
        if (!tree->immutable() && (record.path == "/" || record.path.empty())) {
            // The root of a client's directory is a place, not a part of it: who owns it does not count. BuildKit, to
            // which clients do not send it, takes the digest of nothing.
            record.self.digest = raw_of(codec::sha256_of(""));
            record.self.known = true;
            return {};
        }
        const auto* entry = known_entry(record.path, ".");
        if (entry != nullptr && tree->immutable() && recall(*entry, record.self)) return {};
        TRY(open(record, nullptr));
        if (entry != nullptr && recall(*entry, record.self)) return {};
        record.self.digest = TRY(digest_header(*record.dir, record.self.node));
        record.self.known = true;
        if (plain == nullptr) learnt = true;
        return {};
    }

    // Collects what must be read among the entries of a listed directory (other than directories).
    Result<> gather(DirRecord& dir, std::vector<Record*>& unknown) {
        const auto* remembered = tree->immutable() ? nullptr : known.find_dir(dir.path);
        std::span<const DigestTable::Entry> table;
        if (remembered != nullptr) table = known.entries_of(*remembered).subspan(1);
        std::size_t at = 0;
        for (auto& record : dir.entries) {
            if (record.known || record.kind == Kind::directory) continue;
            TRY(look_at(dir, record));
            if (record.known) continue;
            while (at < table.size() && known.name_of(table[at]) < record.name) ++at;
            if (at < table.size() && known.name_of(table[at]) == record.name && recall(table[at], record)) continue;
            unknown.push_back(&record);
        }
        return {};
    }

    // --- digests ---
    Result<RawDigest> of_found(const snapshot::Found& found, const Stop& stop) {
        if (found.node.kind == Kind::directory) return of_dir(found.path, nullptr, stop);
        const std::string dir_path(codec::dir_name(found.path));
        Record* record = nullptr;
        if (const auto dir = dirs.find(dir_path); dir != dirs.end() && dir->second->listed) {
            record = dir->second->find(found.name);
        }
        if (record == nullptr) {
            record = &loose.try_emplace(found.path, loose_record(found)).first->second;
        }
        if (record->known) return record->digest;
        if (plain == nullptr || !record->has_stat) {
            record->node = found.node;
            record->kind = found.node.kind;
            record->has_stat = true;
            make_usual(*record);
            if (record->known) return record->digest;
        }
        const auto* entry = known_entry(dir_path, found.name);
        if (entry != nullptr && recall(*entry, *record)) return record->digest;
        record->digest = TRY_CONTEXT(read(*found.parent, *record, counters), "{}", found.path);
        record->known = true;
        learnt = true;
        return record->digest;
    }

    Result<RawDigest> read(const snapshot::Directory& dir, Record& record, Counters& counted) const {
        ++counted.files_read;
        if (plain == nullptr) return digest_record(dir, record.name, record.node, counted.bytes_read);
        Node node = record.node;
        const RawDigest digest = TRY(digest_record(dir, record.name, node, counted.bytes_read));
        const auto now = tree->immutable() ? std::optional(node) : TRY(dir.find(record.name));
        const auto is_seen = [&](const Node& other) {
            return other.kind == record.node.kind && other.size == record.node.size &&
                   other.inode == record.node.inode && other.mtime_ns == record.node.mtime_ns &&
                   other.ctime_ns == record.node.ctime_ns;
        };
        if (!is_seen(node) || !now || !is_seen(*now)) {
            return fail(Code::aborted, Blame::user, "{}: file changed while the build was reading it", record.name)
                .with_hint("run the build again when nothing writes to the build context");
        }
        if (record.as_it_is != nullptr) {
            record.as_it_is->usual = digest;
            record.as_it_is->usual_mode = record.node.mode;
            record.as_it_is->usual_owner = replacement.owner;
        }
        return digest;
    }

    Result<RawDigest> of_dir(const std::string& path, DirectoryRef dir, const Stop& stop);
    Result<> walk(DirRecord& record, DirectoryRef dir, Crew& crew, int depth, const Stop& stop);
    Result<RawDigest> fold(DirRecord& record);
    Result<Digest> plain_digest(const ContentSelector& selector, const Stop& stop);
    Result<Digest> filtered(const ContentSelector& selector, std::vector<ListedFile>* listed, const Stop& stop);
    // Appends what lies at and below path, which has been hashed; false when that is more than limit.
    Result<bool> list_below(const snapshot::Found& found, std::size_t limit, std::vector<ListedFile>& files,
                            const Stop& stop);
    Result<bool> list_dir(const std::string& path, std::size_t limit, int depth, std::vector<ListedFile>& files,
                          const Stop& stop);
    [[nodiscard]] DigestTable make_table() const;
    void close_dirs() {
        for (auto& [path, record] : dirs) record->dir.reset();
    }
};

// Hashes files on the caller's thread and on helpers; jobs wait in a short queue.
class TreeDigester::State::Crew {
public:
    Crew(State& state, Stop stop) : state_(state), stop_(std::move(stop)) {}
    ~Crew() {
        shared_.lock()->closing = true;
        shared_.notify_all();
    }
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;

    Result<> add(const DirectoryRef& dir, std::span<Record* const> records) {
        for (std::size_t at = 0; at < records.size(); at += kJobFiles) {
            const auto part = records.subspan(at, std::min(kJobFiles, records.size() - at));
            Job job{dir, {part.begin(), part.end()}};
            if (helpers_.size() + 1 < state_.threads) helpers_.emplace_back([this] { help(); });
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
        }
        return {};
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
        state_.counters.files_read += shared->counted.files_read;
        state_.counters.bytes_read += shared->counted.bytes_read;
        shared->counted = {};
        if (shared->error) return *shared->error;
        return {};
    }

private:
    struct Shared {
        std::deque<Job> jobs;
        int running = 0;
        bool closing = false;
        std::optional<Error> error;
        Counters counted;
    };

    void run(const Job& job) {
        Counters counted;
        std::optional<Error> error;
        for (Record* record : job.records) {
            if (stop_.stop_requested()) {
                error = cancelled();
                break;
            }
            auto digest = state_.read(*job.dir, *record, counted);
            if (!digest) {
                error = digest.error();
                break;
            }
            record->digest = *digest;
            record->known = true;
        }
        auto shared = shared_.lock();
        if (error && !shared->error) shared->error = error;
        shared->counted.files_read += counted.files_read;
        shared->counted.bytes_read += counted.bytes_read;
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

    State& state_;
    Stop stop_;
    Guarded<Shared> shared_;
    std::vector<std::jthread> helpers_;  // last: joined first
};

Result<> TreeDigester::State::walk(DirRecord& record, DirectoryRef dir, Crew& crew, int depth, const Stop& stop) {
    TRY(check_stop(stop));
    if (depth > kMaxDepth) return bad_input("{}: directories nest too deep", record.path);
    if (record.digest_known) return {};
    TRY(list(record, dir));
    std::vector<Record*> unknown;
    TRY(gather(record, unknown));
    if (!unknown.empty()) {
        learnt = true;
        TRY(open(record, dir));
        TRY_CONTEXT(crew.add(record.dir, unknown), "{}", record.path);
    }
    TRY(ensure_header(record));
    for (const auto& entry : record.entries) {
        if (entry.kind != Kind::directory) continue;
        DirRecord& child = dir_record(child_path(record.path, entry.name));
        if (tree->immutable()) {
            const auto* remembered = known.find_dir(child.path);
            if (remembered != nullptr && (remembered->flags & DigestTable::kDirDigestKnown) != 0) {
                child.digest = remembered->digest;
                child.digest_known = true;
                continue;
            }
        }
        DirectoryRef opened;
        if (!child.dir && !child.listed && record.dir) opened = TRY(record.dir->open_dir(entry.name));
        TRY(walk(child, std::move(opened), crew, depth + 1, stop));
    }
    record.dir.reset();  // jobs hold it as long as they need it
    return {};
}

// The recursive digest from the parts: key and digest of its own record, then of each child; keys are paths with '/'
// as NUL.
Result<RawDigest> TreeDigester::State::fold(DirRecord& record) {
    if (record.digest_known) return record.digest;
    codec::Sha256 hash;
    const std::string_view separator("\0", 1);
    hash.update(separator);
    hash_digest_text(hash, record.self.digest);
    std::string key;
    for (const auto& entry : record.entries) {
        key.assign(separator);
        key += entry.name;
        hash.update(std::string_view(key));
        if (entry.kind == Kind::directory) {
            hash_digest_text(hash, TRY(fold(dir_record(child_path(record.path, entry.name)))));
        } else {
            hash_digest_text(hash, entry.digest);
        }
    }
    record.digest = raw_of(hash.finish());
    record.digest_known = true;
    return record.digest;
}

Result<RawDigest> TreeDigester::State::of_dir(const std::string& path, DirectoryRef dir, const Stop& stop) {
    DirRecord& record = dir_record(path);
    if (!record.digest_known && tree->immutable()) {
        const auto* remembered = known.find_dir(path);
        if (remembered != nullptr && (remembered->flags & DigestTable::kDirDigestKnown) != 0) {
            record.digest = remembered->digest;
            record.digest_known = true;
        }
    }
    if (record.digest_known) return record.digest;
    {
        Crew crew(*this, stop);
        TRY(walk(record, std::move(dir), crew, 0, stop));
        TRY(crew.finish());
    }
    if (tree->immutable()) learnt = true;
    return fold(record);
}

Result<Digest> TreeDigester::State::plain_digest(const ContentSelector& selector, const Stop& stop) {
    const std::string path = codec::rooted_path(selector.path);
    const auto found = TRY(tree->find(path, selector.follow_links ? FollowLast::yes : FollowLast::no));
    if (!found) return not_found(path == "/" ? "" : path);
    return to_digest(TRY(of_found(*found, stop)));
}

namespace {

// One record that a filter lets through: path as the selector spells it, and where its digest is.
struct Included {
    std::string path;       // "/a/b"; "" = the root
    std::string candidate;  // relative to what was selected
    DirRecord* dir = nullptr;
    Record* record = nullptr;
};

struct Filter {
    PatternMatcher include;
    PatternMatcher exclude;
};

struct ParentHeader {
    std::string path;
    PatternMatcher::ParentResults include;
    PatternMatcher::ParentResults exclude;
    bool included = false;
    Included item;
};

// Whether something below path could still match the wildcard pattern, component by component.
bool may_lead_to(std::string_view pattern, std::string_view path) {
    if (pattern.find('[') != std::string_view::npos) return true;  // a class may match '/'
    std::size_t p = 0;
    std::size_t n = 0;
    while (n < path.size()) {
        if (p >= pattern.size()) return false;
        const std::size_t pattern_end = std::min(pattern.find('/', p + 1), pattern.size());
        const std::size_t path_end = std::min(path.find('/', n + 1), path.size());
        const auto match = codec::path_match(pattern.substr(p, pattern_end - p), path.substr(n, path_end - n));
        if (!match || !*match) return false;
        p = pattern_end;
        n = path_end;
    }
    return p < pattern.size();
}

}  // namespace

// The walk over the selected part of the tree in key order, with the bookkeeping of BuildKit's includedPaths.
class FilteredWalk {
public:
    FilteredWalk(TreeDigester::State& state, const ContentSelector& selector, const Filter& filter, std::string pattern,
                 std::string shown, std::string real, Stop stop)
        : state_(state),
          filter_(filter),
          wildcard_(selector.wildcard),
          skip_own_header_(selector.path.ends_with('/')),
          pattern_(std::move(pattern)),
          shown_(std::move(shown)),
          real_(std::move(real)),
          stop_(std::move(stop)) {}

    Result<> run(const snapshot::Found& found) {
        if (found.node.kind == Kind::directory) return enter(found.path, nullptr, 0);
        Record* record = &state_.loose.try_emplace(found.path, state_.loose_record(found)).first->second;
        if (!record->has_stat) {
            record->node = found.node;
            record->has_stat = true;
            state_.make_usual(*record);
        }
        loose_parent_ = found.parent;
        return visit(shown_path(found.path), nullptr, record);
    }

    std::vector<Included> included;
    DirectoryRef loose_parent_;

private:
    [[nodiscard]] std::string shown_path(const std::string& real) const {
        const std::string key = real == "/" ? "" : real;
        return key.starts_with(real_) ? shown_ + key.substr(real_.size()) : key;
    }

    // Whether the wildcard (or the plain path) selects path; candidate is what the filters are asked about.
    Result<bool> selects(const std::string& path, std::string& candidate) {
        std::string base = pattern_;
        if (wildcard_) {
            if (!pattern_.empty() &&
                (last_matched_.empty() || !std::string_view(path).starts_with(last_matched_ + "/"))) {
                if (!TRY(codec::path_match(pattern_, path))) return false;
                last_matched_ = path;
            }
            base = last_matched_;
        }
        candidate = path;
        if (candidate.size() > base.size()) {
            candidate.erase(0, base.size() + 1);
        } else {
            candidate.clear();
        }
        return true;
    }

    bool passes(const std::string& candidate, ParentHeader& mine) const {
        static const PatternMatcher::ParentResults kNothing;
        const ParentHeader* parent = parents_.empty() ? nullptr : &parents_.back();
        if (!filter_.include.empty() &&
            !filter_.include.matches(candidate, parent != nullptr ? parent->include : kNothing, mine.include)) {
            return false;
        }
        return filter_.exclude.empty() ||
               !filter_.exclude.matches(candidate, parent != nullptr ? parent->exclude : kNothing, mine.exclude);
    }

    void take(Included item) {
        for (auto& parent : parents_) {
            if (!parent.included) included.push_back(parent.item);
            parent.included = true;
        }
        included.push_back(std::move(item));
    }

    Result<> visit(const std::string& path, DirRecord* dir, Record* record) {
        std::string candidate;
        if (!TRY(selects(path, candidate))) return {};
        ParentHeader mine;
        if (passes(candidate, mine)) {
            take({.path = path, .candidate = candidate, .dir = dir, .record = record});
        }
        return {};
    }

    Result<> enter(const std::string& real, const DirectoryRef& opened, int depth) {
        TRY(check_stop(stop_));
        if (depth > kMaxDepth) return bad_input("{}: directories nest too deep", real);
        DirRecord& dir = state_.dir_record(real);
        const std::string path = shown_path(real);
        while (!parents_.empty() && !(path + "/").starts_with(parents_.back().path + "/")) parents_.pop_back();
        const std::size_t parents_before = parents_.size();
        std::string candidate;
        const bool selected = TRY(selects(path, candidate));
        bool descend = selected || may_lead_to(pattern_, path);
        if (selected && !(skip_own_header_ && path == pattern_)) {
            ParentHeader mine{.path = path};
            mine.item = {.path = path, .candidate = candidate, .dir = &dir, .record = &dir.self};
            if (passes(candidate, mine)) {
                take(mine.item);
                mine.included = true;
            } else if (!candidate.empty()) {
                // Nothing below can pass: not looked at.
                if (!filter_.include.empty() && !filter_.include.matches_or_parent_matches(candidate) &&
                    !filter_.include.may_match_below(candidate)) {
                    descend = false;
                }
                if (!filter_.exclude.empty() && !filter_.exclude.has_exceptions() &&
                    filter_.exclude.matches_or_parent_matches(candidate)) {
                    descend = false;
                }
            }
            parents_.push_back(std::move(mine));
        }
        if (descend) {
            TRY(state_.list(dir, opened));
            for (auto& record : dir.entries) {
                const std::string child = child_path(real, record.name);
                if (record.kind != Kind::directory) {
                    TRY(visit(shown_path(child), &dir, &record));
                    continue;
                }
                DirectoryRef child_dir;
                if (dir.dir) child_dir = TRY(dir.dir->open_dir(record.name));
                TRY(enter(child, child_dir, depth + 1));
            }
        }
        while (parents_.size() > parents_before) parents_.pop_back();
        return {};
    }

    TreeDigester::State& state_;
    const Filter& filter_;
    bool wildcard_;
    bool skip_own_header_;
    std::string pattern_;  // "/a/b*" or the plain path, "" = the root
    std::string shown_;    // the fixed prefix as spelled
    std::string real_;     // and resolved
    Stop stop_;
    std::string last_matched_;
    std::vector<ParentHeader> parents_;
};

Result<Digest> TreeDigester::State::filtered(const ContentSelector& selector, std::vector<ListedFile>* listed,
                                             const Stop& stop) {
    std::string path = codec::rooted_path(selector.path);
    if (path == "/") path.clear();
    Filter filter;
    filter.include = TRY_CONTEXT(PatternMatcher::create(selector.include), "invalid includepatterns");
    filter.exclude = TRY_CONTEXT(PatternMatcher::create(selector.exclude), "invalid excludepatterns");

    std::string prefix = path;
    auto follow = FollowLast::no;
    if (selector.wildcard) {
        const auto split = codec::split_wildcard(path);
        prefix = split.fixed == "/" ? "" : split.fixed;
        if (!split.pattern.empty()) follow = FollowLast::yes;
    }
    std::vector<Included> included;
    DirectoryRef loose_parent;
    if (const auto found = TRY(tree->find(prefix.empty() ? "/" : prefix, follow))) {
        FilteredWalk walk(*this, selector, filter, path, prefix, found->path == "/" ? "" : found->path, stop);
        TRY(walk.run(*found));
        included = std::move(walk.included);
        loose_parent = walk.loose_parent_;
    }
    for (const auto& required : selector.required) {
        const PatternMatcher wanted = TRY(PatternMatcher::create({required}));
        const bool met = std::any_of(included.begin(), included.end(), [&](const Included& item) {
            return wanted.matches_or_parent_matches(item.candidate);
        });
        if (!met) return not_found(codec::join_path(path.empty() ? "/" : path, required));
    }

    // Read what is not known, directory by directory.
    {
        Crew crew(*this, stop);
        for (std::size_t at = 0; at < included.size();) {
            DirRecord* dir = included[at].dir;
            std::vector<Record*> unknown;
            for (; at < included.size() && included[at].dir == dir; ++at) {
                Record* record = included[at].record;
                if (record->known) continue;
                if (dir != nullptr && record == &dir->self) {
                    TRY(ensure_header(*dir));
                    continue;
                }
                if (selector.follow_links && record->kind == Kind::symlink) continue;
                if (dir != nullptr) TRY(look_at(*dir, *record));
                if (record->known) continue;
                const std::string dir_path =
                    dir != nullptr ? dir->path : std::string(codec::dir_name(included[at].path));
                const auto* entry = known_entry(dir_path, record->name);
                if (entry == nullptr || !recall(*entry, *record)) unknown.push_back(record);
            }
            if (unknown.empty()) continue;
            learnt = true;
            if (dir != nullptr) TRY(open(*dir, nullptr));
            TRY(crew.add(dir != nullptr ? dir->dir : loose_parent, unknown));
        }
        TRY(crew.finish());
    }
    if (included.empty()) return codec::sha256_of("");

    std::vector<RawDigest> digests;
    for (const auto& item : included) {
        if (selector.follow_links && item.record->kind == Kind::symlink) {
            const auto target = TRY(tree->find(item.path, FollowLast::yes));
            if (!target) return not_found(item.path);
            digests.push_back(TRY(of_found(*target, stop)));
        } else {
            digests.push_back(item.record->digest);
        }
        if (listed == nullptr) continue;
        if (item.dir != nullptr && item.record != &item.dir->self) TRY(look_at(*item.dir, *item.record));
        if (item.dir != nullptr && item.record == &item.dir->self) TRY(open(*item.dir, nullptr));
        listed->push_back({item.path.empty() ? "/" : item.path, item.record->node, digests.back()});
    }
    if (included.size() == 1 && codec::base_name(path) == codec::base_name(included[0].path)) {
        return to_digest(digests[0]);
    }
    codec::Sha256 hash;
    for (std::size_t i = 0; i < included.size(); ++i) {
        std::string key = included[i].path;
        if (key.starts_with(prefix)) key.erase(0, prefix.size());
        std::replace(key.begin(), key.end(), '/', '\0');
        if (key.empty()) key.assign(1, '\0');
        hash.update(std::string_view(key));
        hash_digest_text(hash, digests[i]);
    }
    return hash.finish();
}

Result<bool> TreeDigester::State::list_dir(const std::string& path, std::size_t limit, int depth,
                                           std::vector<ListedFile>& files, const Stop& stop) {
    TRY(check_stop(stop));
    if (depth > kMaxDepth) return bad_input("{}: directories nest too deep", path);
    DirRecord& dir = dir_record(path);
    TRY(list(dir, nullptr));
    TRY(ensure_header(dir));
    TRY(open(dir, nullptr));
    if (files.size() >= limit) return false;
    files.push_back({path, dir.self.node, dir.self.digest});
    for (auto& record : dir.entries) {
        const std::string child = child_path(path, record.name);
        if (record.kind == Kind::directory) {
            if (!TRY(list_dir(child, limit, depth + 1, files, stop))) return false;
            continue;
        }
        if (files.size() >= limit) return false;
        TRY(look_at(dir, record));
        if (!record.known) {
            // Remembered only as part of the whole.
            record.digest = TRY(read(*dir.dir, record, counters));
            record.known = true;
        }
        files.push_back({child, record.node, record.digest});
    }
    dir.dir.reset();
    return true;
}

Result<bool> TreeDigester::State::list_below(const snapshot::Found& found, std::size_t limit,
                                             std::vector<ListedFile>& files, const Stop& stop) {
    if (found.node.kind == Kind::directory) return list_dir(found.path, limit, 0, files, stop);
    files.push_back({found.path, usual_node(replacement, found.node), TRY(of_found(found, stop))});
    return files.size() <= limit;
}

TreeDigester::TreeDigester(snapshot::TreeRef tree, DigestTable known, std::size_t threads)
    : tree_(tree), threads_(std::max<std::size_t>(threads, 1)) {
    auto state = std::make_unique<State>(std::move(tree));
    state->threads = threads_;
    state->known = std::move(known);
    *state_.lock() = std::move(state);
}

TreeDigester::~TreeDigester() = default;

Result<Digest> TreeDigester::digest(const ContentSelector& selector, Stop stop) {
    auto locked = state_.lock();
    State& state = **locked;
    if (state.started_ns == 0) state.started_ns = now_ns();
    auto result = has_filters(selector) ? state.filtered(selector, nullptr, stop) : state.plain_digest(selector, stop);
    state.close_dirs();
    return result;
}

Result<std::optional<std::vector<TreeDigester::ListedFile>>> TreeDigester::list(const ContentSelector& selector,
                                                                                const Replacement& replacement,
                                                                                std::size_t limit, Stop stop) {
    using Listed = std::optional<std::vector<ListedFile>>;
    auto locked = state_.lock();
    State usual(**locked, replacement);
    State& state = replacement.replaces_nothing() ? **locked : usual;
    const auto list = [&]() -> Result<Listed> {
        std::vector<ListedFile> files;
        if (has_filters(selector)) {
            TRY(state.filtered(selector, &files, stop));
            return files.size() > limit ? Listed() : Listed(std::move(files));
        }
        const std::string path = codec::rooted_path(selector.path);
        const auto found = TRY(tree_->find(path, selector.follow_links ? FollowLast::yes : FollowLast::no));
        if (!found) return not_found(path);
        if (!TRY(state.list_below(*found, limit, files, stop))) return Listed();
        return Listed(std::move(files));
    };
    auto result = list();
    (*locked)->close_dirs();
    return result;
}

namespace {

// Several selectors of one input: the digests as text, joined by NUL. None: the whole tree.
template <class DigestOf>
Result<Digest> digest_joined(std::span<const ContentSelector> selectors, DigestOf digest_of) {
    static const ContentSelector kWhole;
    if (selectors.empty()) selectors = std::span(&kWhole, 1);
    std::string joined;
    for (const auto& selector : selectors) {
        const Digest one = TRY(digest_of(selector));
        if (!joined.empty()) joined += '\0';
        joined += one.to_string();
    }
    return codec::sha256_of(joined);
}

}  // namespace

Result<Digest> TreeDigester::digest_all(std::span<const ContentSelector> selectors, Stop stop) {
    return digest_joined(selectors, [&](const ContentSelector& selector) { return digest(selector, stop); });
}

Result<Digest> TreeDigester::digest_alike(std::span<const ContentSelector> selectors, const Replacement& replacement,
                                          Stop stop) {
    auto locked = state_.lock();
    State& plain = **locked;
    State usual(plain, replacement);
    usual.started_ns = plain.started_ns;
    if (!tree_->immutable()) {
        if (!plain.usual_known) plain.usual_known = plain.load_usual ? plain.load_usual() : DigestTable();
        usual.known = std::move(*plain.usual_known);
    }
    auto result = digest_joined(selectors, [&](const ContentSelector& selector) {
        return has_filters(selector) ? usual.filtered(selector, nullptr, stop) : usual.plain_digest(selector, stop);
    });
    plain.close_dirs();
    if (!tree_->immutable()) {
        plain.usual_known = usual.learnt ? usual.make_table() : std::move(usual.known);
        plain.usual_learnt = plain.usual_learnt || usual.learnt;
    }
    return result;
}

bool TreeDigester::take_learnt() { return std::exchange((*state_.lock())->learnt, false); }

bool TreeDigester::learnt() { return (*state_.lock())->learnt; }

TreeDigester::Counters TreeDigester::counters() { return (*state_.lock())->counters; }

std::optional<Node> TreeDigester::hashed_node(std::string_view path) {
    auto locked = state_.lock();
    State& state = **locked;
    const std::string dir_path(codec::dir_name(path));
    const Record* record = nullptr;
    if (const auto dir = state.dirs.find(dir_path); dir != state.dirs.end()) {
        record = dir->second->find(codec::base_name(path));
    }
    if (record == nullptr) {
        const auto loose = state.loose.find(std::string(path));
        if (loose != state.loose.end()) record = &loose->second;
    }
    if (record == nullptr || !record->known || !record->has_stat) return std::nullopt;
    return record->node;
}

std::vector<TreeDigester::HashedFile> TreeDigester::hashed_files(const std::string& dir_path) {
    auto locked = state_.lock();
    State& state = **locked;
    std::vector<HashedFile> files;
    if (const auto dir = state.dirs.find(dir_path); dir != state.dirs.end()) {
        for (const auto& record : dir->second->entries) {
            if (record.known && record.has_stat) files.push_back({record.name, record.node, record.digest});
        }
    }
    const std::string prefix = dir_path == "/" ? "/" : dir_path + "/";
    bool merged = false;
    for (auto at = state.loose.lower_bound(prefix); at != state.loose.end() && at->first.starts_with(prefix); ++at) {
        const Record& record = at->second;
        if (!record.known || !record.has_stat || at->first.size() != prefix.size() + record.name.size()) continue;
        files.push_back({record.name, record.node, record.digest});
        merged = true;
    }
    if (merged) {
        std::stable_sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    }
    return files;
}

void TreeDigester::remember_usual(std::function<DigestTable()> load) { (*state_.lock())->load_usual = std::move(load); }

std::optional<DigestTable> TreeDigester::take_usual() {
    auto locked = state_.lock();
    State& state = **locked;
    if (!std::exchange(state.usual_learnt, false)) return std::nullopt;
    return state.usual_known;
}

DigestTable TreeDigester::table() { return (*state_.lock())->make_table(); }

DigestTable TreeDigester::State::make_table() const {
    const DigestTable& old = known;
    const bool immutable = tree->immutable();
    DigestTable out;
    out.scanned_ns = started_ns != 0 ? started_ns : old.scanned_ns;

    const auto add_string = [&](std::string_view text) {
        const auto at = static_cast<std::uint32_t>(out.strings.size());
        out.strings += text;
        return at;
    };
    const auto add_entry = [&](std::string_view name, const Record& record) {
        DigestTable::Entry entry{.inode = record.node.inode,
                                 .device = record.node.device,
                                 .mtime_ns = record.node.mtime_ns,
                                 .ctime_ns = record.node.ctime_ns,
                                 .size = record.node.size};
        entry.mode = record.node.mode | (static_cast<std::uint32_t>(record.kind) << 16U);
        entry.name_offset = add_string(name);
        entry.name_length = static_cast<std::uint32_t>(name.size());
        entry.flags = (record.known ? DigestTable::kEntryKnown : 0) | (record.has_stat ? DigestTable::kEntryStat : 0);
        entry.digest = record.digest;
        out.entries.push_back(entry);
    };
    // An entry of the old table, when it is still worth something under the new time.
    const auto carry_entry = [&](const DigestTable::Entry& entry) {
        DigestTable::Entry copy = entry;
        copy.name_offset = add_string(old.name_of(entry));
        if (!immutable && std::max(entry.mtime_ns, entry.ctime_ns) >= old.scanned_ns - kRacyNs) copy.flags = 0;
        out.entries.push_back(copy);
    };

    struct Source {
        const DirRecord* listed = nullptr;
        const DigestTable::Dir* old = nullptr;
        std::map<std::string_view, const Record*> loose;
        const DirRecord* any = nullptr;
    };
    std::map<std::string_view, Source> sources;
    const bool carry = old.entries.size() <= kMaxCarriedEntries;
    if (carry) {
        for (const auto& dir : old.dirs) sources[old.path_of(dir)].old = &dir;
    }
    for (const auto& [path, record] : dirs) {
        auto& source = sources[path];
        source.any = record.get();
        if (record->listed) source.listed = record.get();
    }
    for (const auto& [path, record] : loose) {
        sources[codec::dir_name(path)].loose.emplace(record.name, &record);
    }

    for (const auto& [path, source] : sources) {
        DigestTable::Dir dir;
        dir.path_offset = add_string(path);
        dir.path_length = static_cast<std::uint32_t>(path.size());
        dir.first = static_cast<std::uint32_t>(out.entries.size());
        if (source.any != nullptr && (source.any->self.known || source.old == nullptr)) {
            add_entry(".", source.any->self);
        } else if (source.old != nullptr) {
            carry_entry(old.entries_of(*source.old).front());
        } else {
            add_entry(".", Record{.name = ".", .kind = Kind::directory});
        }
        std::span<const DigestTable::Entry> before;
        if (source.old != nullptr) before = old.entries_of(*source.old).subspan(1);
        if (source.listed != nullptr) {
            std::size_t at = 0;
            for (const auto& record : source.listed->entries) {
                while (at < before.size() && old.name_of(before[at]) < record.name) ++at;
                const bool same = at < before.size() && old.name_of(before[at]) == record.name;
                const auto single = source.loose.find(record.name);
                if (!record.known && single != source.loose.end()) {
                    add_entry(record.name, *single->second);
                } else if (!record.known && same) {
                    carry_entry(before[at]);
                } else {
                    add_entry(record.name, record);
                }
            }
            dir.flags |= DigestTable::kDirListed;
        } else {
            // Old entries and single files, merged by name; the single file is the newer.
            auto single = source.loose.begin();
            for (const auto& entry : before) {
                for (; single != source.loose.end() && single->first < old.name_of(entry); ++single) {
                    add_entry(single->first, *single->second);
                }
                if (single != source.loose.end() && single->first == old.name_of(entry)) continue;
                carry_entry(entry);
            }
            for (; single != source.loose.end(); ++single) add_entry(single->first, *single->second);
            if (source.old != nullptr && source.loose.empty()) dir.flags |= source.old->flags & DigestTable::kDirListed;
        }
        if (immutable && source.any != nullptr && source.any->digest_known) {
            dir.digest = source.any->digest;
            dir.flags |= DigestTable::kDirDigestKnown;
        } else if (immutable && source.old != nullptr) {
            dir.digest = source.old->digest;
            dir.flags |= source.old->flags & DigestTable::kDirDigestKnown;
        }
        dir.count = static_cast<std::uint32_t>(out.entries.size()) - dir.first;
        out.dirs.push_back(dir);
    }
    return out;
}

Result<Digest> digest_of_scratch(std::span<const ContentSelector> selectors) {
    if (selectors.empty()) return codec::sha256_of(codec::sha256_of("").to_string());
    std::string joined;
    for (const auto& selector : selectors) {
        const std::string path = codec::rooted_path(selector.path);
        if (path != "/") return fail(Code::not_found, Blame::user, "{}: no such file or directory", path);
        if (!joined.empty()) joined += '\0';
        joined += codec::sha256_of("").to_string();
    }
    return codec::sha256_of(joined);
}

}  // namespace cooper::layer
