// Store: the state directory. Blobs by content, layers (file trees), images, cache facts, cache mounts,
// build history; shared by any number of processes. docs/store.md has the invariants.
//
// Any thread. Everything a process uses is held by its lease, which dies with it; what nobody holds and
// nothing names may be pruned. A crash at any point leaves a store that the next open() uses.
#pragma once

#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "base/guarded.hpp"
#include "base/stop.hpp"
#include "codec/sha256.hpp"
#include "oci/descriptor.hpp"
#include "store/chain.hpp"
#include "store/database.hpp"
#include "store/space.hpp"
#include "sys/file_lock.hpp"
#include "sys/rooted_dir.hpp"

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace cooper::store {

class Store;

// A blob being written. Vanishes unless committed. With a digest known beforehand the partial file is
// kept when the write breaks off, and the next ingest of that digest goes on from there.
class Ingest final : public ByteSink {
public:
    Ingest(Ingest&&) noexcept = default;
    ~Ingest() override;
    Result<> write(std::span<const std::byte> data) override;
    [[nodiscard]] std::uint64_t offset() const { return size_; }  // bytes that are there already
    // Fails with data_loss (and forgets the bytes) when expected is given and differs.
    Result<oci::Descriptor> commit(const std::optional<Digest>& expected) &&;
    // Forgets what was written, also of a resumable one.
    void discard();

private:
    friend class Store;
    Ingest() = default;
    Store* store_ = nullptr;
    std::string name_;  // below tmp/
    sys::Fd file_;
    sys::FileLock lock_;
    codec::Sha256 hash_;
    std::uint64_t size_ = 0;
    bool resumable_ = false;
};

struct LayerInfo {
    std::string description;
    std::string record_type = "regular";
    std::uint64_t size_bytes = 0;
    std::optional<Digest> diff_id;
};

// A layer being made: an empty directory on the same file system as all layers, and a work directory
// for overlayfs beside it. Removed unless committed.
class LayerDraft {
public:
    LayerDraft(LayerDraft&& other) noexcept;
    LayerDraft& operator=(LayerDraft&&) = delete;
    ~LayerDraft();
    [[nodiscard]] const std::string& host_path() const { return fs_path_; }  // absolute
    [[nodiscard]] const std::string& work_path() const { return work_path_; }
    [[nodiscard]] Result<sys::RootedDir> open() const;
    Result<LayerId> commit(const LayerInfo& info) &&;

private:
    friend class Store;
    LayerDraft() = default;
    Store* store_ = nullptr;
    std::string dir_;  // name below tmp/
    std::string fs_path_;
    std::string work_path_;
    LayerId lazy_ = 0;  // the lazy layer this becomes
    std::chrono::steady_clock::time_point begun_{};
    sys::FileLock lock_;
};

// What a layer that is not on disk yet is made of.
struct LazyLayer {
    oci::Descriptor blob;
    std::string reference;               // where the blob can be had: "docker.io/library/x@sha256:…"
    std::optional<Timestamp> created{};  // of what it holds, when that is known
};

struct LayerRecord {
    LayerId id = 0;
    bool on_disk = false;
    LayerInfo info;
    Timestamp created{};
    std::chrono::nanoseconds cost{0};  // what it took to make or to fetch it; 0 = not known
    std::optional<LazyLayer> lazy;
};

// A known packed form of a layer.
struct LayerBlob {
    std::string compression;  // "none", "gzip", "zstd"
    oci::Descriptor blob;
};

struct ImageRecord {
    std::string name;  // canonical; "" = known by its digest only
    oci::Descriptor target;
    // Of the image for this machine; of an index without one, the first. Empty when none is known here.
    Digest config;
    Chain chain;                // its layers; empty when not known here
    std::vector<Chain> others;  // layers of an index's images for other machines, as far as they are kept here
    Timestamp updated{};
};

enum class Sharing : std::uint8_t { shared, private_, locked };

// A persistent directory of RUN --mount=type=cache, held for as long as this lives.
class CacheMount {
public:
    [[nodiscard]] const std::string& host_path() const { return path_; }
    // Of the same file system and life: what is remembered about it.
    [[nodiscard]] std::string side_path() const { return path_.substr(0, path_.rfind('/')); }
    // True until mark_seeded(): nobody has put the initial content in yet. Held exclusively then.
    [[nodiscard]] bool fresh() const { return fresh_; }
    Result<> mark_seeded();

private:
    friend class Store;
    Store* store_ = nullptr;
    std::int64_t id_ = 0;
    std::string path_;
    bool fresh_ = false;
    sys::FileLock lock_;
};

struct Fact {
    std::string value;
    Timestamp time{};
};

struct UsageRecord {
    std::string id;
    std::string description;
    std::string record_type;
    std::uint64_t size_bytes = 0;
    bool in_use = false;
    bool shared = false;
    bool mutable_record = false;
    std::int64_t usage_count = 0;
    Timestamp created{};
    Timestamp last_used{};
    std::int64_t cost_ns = 0;          // what it took to make it
    std::vector<std::string> parents;  // ids of layers that it is on top of
};

// Why a record is there, and what would free it; in words.
struct KeptRecord {
    UsageRecord usage;
    std::vector<std::string> by;
    std::vector<std::string> freed_by;
};

struct PruneOptions {
    bool all = false;  // also what only cache records name
    std::optional<Timestamp> used_before;
    std::vector<std::pair<std::string, std::string>> equals;  // field (id, type, description), value
    std::uint64_t keep_bytes = 0;                             // ends when no more than this is left
    std::uint64_t free_bytes = 0;                             // ends when so much has been removed
    bool dry_run = false;                                     // only says what would go
    std::function<bool(const UsageRecord& record)> only;      // empty = every record
};

struct BuildRecord {
    std::string ref;
    std::string description;
    Timestamp started{};
    std::optional<Timestamp> completed;
    std::string error;
    int steps = 0;
    int cached_steps = 0;
};

struct CacheLinkRow {
    std::string from;
    std::string link;
    std::string to;
};
struct CacheResultRow {
    std::string key;
    std::string result;
    Timestamp created{};
};

// What the key of a step was made of when it ran (docs/cache.md); `data` is `why`'s to encode.
struct StepRecord {
    std::string project;
    std::string stage;
    std::string text;       // digest of the instruction
    std::string result;     // of the step; kUnfinished
    std::string manifests;  // names of what it read, separated by spaces
    std::string data;
    Timestamp created{};
};

// The result of a run that has given none.
inline constexpr std::string_view kUnfinished = "unfinished";

class Store : public std::enable_shared_from_this<Store> {
public:
    // Creates what is missing. A damaged database is moved aside (its name says so) and begun anew.
    static Result<std::unique_ptr<Store>> open(const std::string& root, const Clock& clock);
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;
    ~Store();
    // The same store for somebody who comes and goes, such as one build of a daemon: with a lease of its own that
    // says its purpose. This one must outlive it.
    Result<std::shared_ptr<Store>> branch(std::string purpose);
    // Of a branch: while one of these lives, all that is taken through the branch is held; with the last one, what
    // is not pinned is let go of.
    [[nodiscard]] std::shared_ptr<const void> use();

    [[nodiscard]] const std::string& root() const { return root_; }
    [[nodiscard]] Database& database() { return *database_; }
    // A folder for short-lived files of this process; gone when the process is.
    Result<std::string> scratch_dir();

    // Blobs.
    Result<Ingest> begin_blob();
    Result<Ingest> resume_blob(const Digest& digest, const Stop& stop);
    Result<oci::Descriptor> put_blob(std::string_view bytes, std::string media_type);
    Result<std::optional<std::uint64_t>> blob_size(const Digest& digest);
    // not_found when it is not here. The descriptor is of a file that is never written again.
    Result<sys::Fd> open_blob(const Digest& digest);
    // At most limit_bytes; verified.
    Result<std::string> read_blob(const Digest& digest, std::size_t limit_bytes);

    // Layers.
    Result<LayerDraft> begin_layer();
    // The layer with this diff id: an existing one, else a new lazy one.
    Result<LayerId> add_lazy_layer(const Digest& diff_id, const LazyLayer& lazy);
    Result<std::optional<LayerId>> find_layer(const Digest& diff_id);
    // A draft that becomes the lazy layer id, or nullopt when somebody has unpacked it meanwhile. Waits
    // for another process that is at it.
    Result<std::optional<LayerDraft>> begin_materialize(LayerId id, const Stop& stop);
    Result<LayerRecord> layer(LayerId id);
    // Of a layer that is on disk.
    [[nodiscard]] std::string layer_path(LayerId id) const;  // <root>/layers/<id>/fs
    [[nodiscard]] std::string layers_dir() const { return root_ + "/layers"; }
    Result<> set_diff_id(LayerId id, const Digest& diff_id);
    Result<> add_layer_blob(LayerId id, const LayerBlob& blob);
    Result<std::vector<LayerBlob>> layer_blobs(LayerId id);

    // Holds all layers of a chain for this Store (of a branch: while it is in use) and notes their use. False when one
    // is gone.
    Result<bool> hold(const Chain& chain);
    // The same for as long as what it gives lives; nullptr when one is gone. A branch lives as long as its pins.
    Result<std::shared_ptr<const void>> pin(const Chain& chain);
    // Others see what is not pinned any more from here on.
    Result<> drop_unpinned();
    // Lets go of all that hold() took. Only when nobody relies on it.
    Result<> release_holds();
    // Whether all layers exist (no hold, from memory where possible).
    Result<bool> exists(const Chain& chain);

    // Images. `blobs` are the manifests and configs that must stay with it.
    Result<> put_image(const ImageRecord& image, const std::vector<Digest>& blobs);
    Result<std::optional<ImageRecord>> find_image(const std::string& name);
    Result<std::vector<ImageRecord>> images();
    Result<bool> remove_image(const std::string& name);

    // Cache records of the solver, as plain text (solver keys and links are the engine's to encode).
    Result<std::vector<std::string>> cache_links(const std::string& from, const std::string& link);
    // All links that lead to a key.
    Result<std::vector<CacheLinkRow>> cache_links_to(const std::string& to);
    Result<std::vector<CacheResultRow>> cache_results(const std::string& key);
    Result<> add_cache(const std::vector<CacheLinkRow>& links, const std::vector<CacheResultRow>& results);
    Result<> drop_cache_result(const std::string& result);
    // Every result that has this layer: it cannot be had any more.
    Result<> drop_cache_results_with(LayerId layer);
    // Layers that are not on disk and are unpacked from this blob.
    Result<std::vector<LayerId>> lazy_layers_of(const Digest& blob);

    // Records of steps. Bounded: the newest ones are kept, also when what the step gave is gone.
    Result<std::int64_t> add_step(const StepRecord& step);
    // In the place of that one.
    Result<std::int64_t> replace_step(std::int64_t id, const StepRecord& step);
    // Of this place (project and stage) or with this instruction; newest first, few.
    Result<std::vector<StepRecord>> find_steps(const std::string& project, const std::string& stage,
                                               const std::string& text);
    Result<std::optional<StepRecord>> find_step_of(const std::string& result);
    // Lists of files, by a name that says what is in them.
    Result<bool> has_manifest(const std::string& name);
    Result<> add_manifest(const std::string& name, const std::string& data);
    Result<std::optional<std::string>> manifest(const std::string& name);
    // Steps that a build had to run, in order, each with the reason; `data` is `why`'s to encode.
    Result<> add_miss(const std::string& build, const std::string& data);
    // Of this build (its first characters will do); empty: of the newest that ran anything.
    struct Misses {
        std::string build;
        std::vector<std::string> data;
        Timestamp last{};
    };
    Result<Misses> misses(const std::string& build);

    // Cache mounts.
    Result<CacheMount> acquire_cache_mount(const std::string& key, Sharing sharing, const std::string& description,
                                           const Stop& stop);
    // The first directory of this key for oneself alone; nullopt while anybody uses it.
    Result<std::optional<CacheMount>> lock_cache_mount(const std::string& key, const std::string& description,
                                                       const Stop& stop);
    // The same beside others, to read it; nullopt when there is none, or somebody wants to be alone with it.
    Result<std::optional<CacheMount>> share_cache_mount(const std::string& key);
    Result<std::vector<std::string>> cache_mount_keys();
    // Empties all directories of this key (--no-cache on a RUN with cache mounts).
    Result<> clear_cache_mounts(const std::string& key, const Stop& stop);

    struct CacheMountRecord {
        std::string key;
        std::string description;
        std::uint64_t size_bytes = 0;
        std::int64_t usage_count = 0;
        Timestamp last_used{};
    };
    // One a directory: mounts that are private may have several under one key.
    Result<std::vector<CacheMountRecord>> cache_mounts();

    // Facts: resolved tags, ETags, hints. Overwritten in place.
    Result<std::optional<Fact>> fact(const std::string& key);
    Result<> set_fact(const std::string& key, const std::string& value);

    // Build history; the log is a file.
    Result<> put_build(const BuildRecord& build);
    Result<std::vector<BuildRecord>> builds();  // newest first
    [[nodiscard]] std::string build_log_path(const std::string& ref) const { return root_ + "/logs/" + ref + ".log"; }

    Result<std::vector<UsageRecord>> usage();
    Result<std::vector<KeptRecord>> why_kept();
    // What was removed, in order. Safe while others build: what somebody holds stays.
    Result<std::vector<UsageRecord>> prune(const PruneOptions& options);
    // From here on nothing that is written makes the directory take more than so much of the disk.
    Result<> limit_space(std::uint64_t max_bytes);
    [[nodiscard]] Space& space() { return *space_; }
    // The files beside a layer's tree have changed.
    Result<> note_files_of(LayerId id);
    // Removes what crashed processes left. Called by open() when there is something.
    Result<> reap();
    // Checks the invariants; returns what is wrong, one line each.
    Result<std::vector<std::string>> verify();

private:
    friend class Ingest;
    friend class LayerDraft;
    friend class CacheMount;
    Store(std::string root, const Clock& clock) : root_(std::move(root)), clock_(clock) {}
    struct Lease {
        std::string name;  // of the file in locks/ and of the folder in tmp/
        sys::FileLock lock;
        std::set<LayerId> held;
        std::map<LayerId, std::size_t> pins;  // 0: let go of, and its row is still there
        std::size_t users = 0;
        std::uint64_t counter = 0;
    };
    Result<> create_schema();
    Result<std::string> lease();          // the name, made on first use
    Result<std::string> new_temp_name();  // "<lease>/<n>", below tmp/
    Result<LayerDraft> make_draft();
    Result<> prepare_cache_mount(std::int64_t id, bool seeded);
    Result<> prune_steps();
    Result<bool> take(const std::string& lease, const Chain& chain);
    void unpin(const Chain& chain);
    struct Inventory;
    Result<Inventory> take_inventory();
    Result<> take_layers(Inventory& all);
    Result<> take_mounts(Inventory& all);
    Result<> take_blobs(Inventory& all);
    std::vector<std::size_t> choose_victims(const Inventory& all, const PruneOptions& options) const;
    Result<> forget_results(const Inventory& all, const std::set<LayerId>& gone);
    enum class Look : std::uint8_t { where_it_changes, everywhere };
    Result<std::uint64_t> measure_disk(Look look);
    Result<std::string> describe_space();
    [[nodiscard]] std::string blob_path(const Digest& digest) const;
    [[nodiscard]] std::int64_t now() const;

    std::string root_;
    const Clock& clock_;
    bool is_branch_ = false;
    std::string purpose_;
    std::shared_ptr<Space> space_;  // of all branches
    sys::RootedDir dir_;
    std::shared_ptr<Database> database_;
    Guarded<Lease> lease_;
    Guarded<std::set<LayerId>> known_;  // layers seen to exist
};

// rm -rf of <root>/<name> however deep it is, with a bounded number of descriptors.
Result<> remove_deep_tree(const sys::RootedDir& root, const std::string& name);

}  // namespace cooper::store
