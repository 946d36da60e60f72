// ImageSource: layers from their packed form to files on disk.
//
// Three threads work on one layer: one receives, hashes and keeps the packed bytes, one decompresses and
// hashes what comes out, and the caller's writes files. Nothing is committed before both digests are right.
#include "base/guarded.hpp"
#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "codec/compression.hpp"
#include "codec/pipeline.hpp"
#include "codec/sha256.hpp"
#include "oci/media_type.hpp"
#include "source/image.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::source {
namespace {

constexpr std::uint64_t kTellEveryBytes = 1u << 20;

// Writes what is read through it into the store, and reports progress.
class KeepingSource final : public ByteSource {
public:
    KeepingSource(std::unique_ptr<ByteSource> inner, store::Ingest& keep, const oci::Descriptor& blob,
                  VertexProgress* progress, Stop stop)
        : inner_(std::move(inner)),
          keep_(keep),
          id_(blob.digest.to_string()),
          size_(blob.size),
          progress_(progress),
          stop_(std::move(stop)) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        TRY(check_stop(stop_));
        const std::size_t n = TRY(inner_->read(buffer));
        if (keep_.offset() + n > size_) {
            return fail(Code::data_loss, Blame::world, "blob {} is longer than the {} bytes announced", id_, size_);
        }
        TRY(keep_.write(buffer.first(n)));
        if (progress_ && (keep_.offset() - told_ >= kTellEveryBytes)) {
            told_ = keep_.offset();
            progress_->status(id_, id_, static_cast<std::int64_t>(told_), static_cast<std::int64_t>(size_), false);
        }
        return n;
    }

private:
    std::unique_ptr<ByteSource> inner_;
    store::Ingest& keep_;
    std::string id_;
    std::uint64_t size_;
    VertexProgress* progress_;
    Stop stop_;
    std::uint64_t told_ = 0;
};

// Hashes on the way; owns what it reads.
class HashingSource final : public ByteSource {
public:
    HashingSource(std::unique_ptr<ByteSource> inner, codec::Sha256& hash) : inner_(std::move(inner)), hash_(hash) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        const std::size_t n = TRY(inner_->read(buffer));
        hash_.update(std::span<const std::byte>(buffer.data(), n));
        return n;
    }

private:
    std::unique_ptr<ByteSource> inner_;
    codec::Sha256& hash_;
};

// VerifyingSource that owns what it reads.
class OwnedVerifyingSource final : public ByteSource {
public:
    OwnedVerifyingSource(std::unique_ptr<ByteSource> inner, const oci::Descriptor& blob)
        : inner_(std::move(inner)), verifying_(*inner_, blob.digest, blob.size) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override { return verifying_.read(buffer); }

private:
    std::unique_ptr<ByteSource> inner_;
    codec::VerifyingSource verifying_;
};

// Reads a shared source; the pipeline above owns this, we own what is below.
class BorrowingSource final : public ByteSource {
public:
    explicit BorrowingSource(ByteSource& inner) : inner_(inner) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override { return inner_.read(buffer); }

private:
    ByteSource& inner_;
};

Result<> drain(ByteSource& source) {
    Bytes scratch(64 * 1024);
    for (;;) {
        if (TRY(source.read(scratch)) == 0) return {};
    }
}

std::string packing_name(codec::Compression compression) {
    return compression == codec::Compression::none ? "none" : std::string(codec::compression_name(compression));
}

struct Unpacked {
    layer::ApplyStats stats;
    Digest diff_id;
    codec::Compression compression = codec::Compression::none;
};

// packed is read to its end.
Result<Unpacked> unpack_stream(ByteSource& packed, const sys::RootedDir& into, const layer::ApplyLimits& limits,
                               const Stop& stop) {
    codec::Decompressed plain = TRY(codec::decompress_any(std::make_unique<BorrowingSource>(packed)));
    codec::Sha256 hash;
    Unpacked result;
    {
        const auto ahead = codec::read_ahead(std::make_unique<HashingSource>(std::move(plain.source), hash));
        result.stats = TRY(layer::apply_layer_tar(*ahead, into, limits, stop));
        TRY(drain(*ahead));  // what follows the end of the archive belongs to the digests
    }
    TRY(drain(packed));
    result.diff_id = hash.finish();
    result.compression = plain.compression;
    return result;
}

// Directories that the archive only implied get the owner, mode and time of the nearest layer below that
// has them: what unpacking onto a mounted tree would have given.
Result<> adopt_directories(const sys::RootedDir& into, const std::vector<std::string>& implied,
                           const std::vector<sys::RootedDir>& lower) {
    for (const std::string& path : implied) {
        for (auto layer = lower.rbegin(); layer != lower.rend(); ++layer) {
            const auto found = layer->stat(path, sys::Follow::no);
            if (!found) continue;
            if (!S_ISDIR(found->st_mode)) break;  // a whiteout, or something that was replaced
            const sys::Fd dir = TRY(into.open(path, O_RDONLY | O_DIRECTORY, sys::Follow::no, 0));
            const std::array<timespec, 2> times{found->st_mtim, found->st_mtim};
            if (fchown(dir.get(), found->st_uid, found->st_gid) != 0 ||
                fchmod(dir.get(), found->st_mode & 07777u) != 0 || futimens(dir.get(), times.data()) != 0) {
                return fail_errno(errno, "set the owner and mode of " + path);
            }
            break;
        }
    }
    return {};
}

}  // namespace

struct ImageSource::Below {
    struct Progress {
        std::set<store::LayerId> unfinished;
        std::optional<Error> error;  // the first
    };
    Guarded<Progress>& progress;
    std::vector<store::LayerId> layers;  // bottom first

    Result<> wait(const Stop& stop) const {
        auto state = progress.lock();
        const bool ready = state.wait(stop, [&] {
            return state->error ||
                   std::ranges::none_of(layers, [&](auto id) { return state->unfinished.contains(id); });
        });
        if (state->error) return *state->error;
        if (!ready) return cancelled();
        return {};
    }
};

Result<std::unique_ptr<ByteSource>> ImageSource::open_blob(const oci::Descriptor& blob, const std::string& reference,
                                                           const Stop& stop) {
    std::unique_ptr<ByteSource> source;
    if (auto file = store_.open_blob(blob.digest)) {
        source = std::make_unique<sys::FdSource>(std::move(*file));
    } else {
        const oci::Reference from = TRY(oci::Reference::parse_canonical(reference));
        source = TRY(origin_.fetch_blob(from, blob, 0, stop));
    }
    return std::make_unique<OwnedVerifyingSource>(std::move(source), blob);
}

Result<> ImageSource::fetch_into_store(ImageOrigin& origin, const oci::Reference& reference,
                                       const oci::Descriptor& blob, VertexProgress* progress, const Stop& stop) {
    if (TRY(store_.blob_size(blob.digest))) return {};
    while (true) {
        store::Ingest ingest = TRY(store_.resume_blob(blob.digest, stop));
        if (TRY(store_.blob_size(blob.digest))) return {};  // somebody else was faster
        const bool resumed = ingest.offset() > 0;
        if (ingest.offset() > blob.size) {  // left by one who announced more
            ingest.discard();
            continue;
        }
        auto source = TRY(origin.fetch_blob(reference, blob, ingest.offset(), stop));
        {
            KeepingSource keeping(std::move(source), ingest, blob, progress, stop);
            TRY(drain(keeping));
        }
        auto kept = std::move(ingest).commit(blob.digest);
        // What was left from an earlier run need not be how the blob begins (lost power, another's lie), and is gone.
        if (!kept && resumed && kept.error().code() == Code::data_loss) continue;
        TRY_CONTEXT(std::move(kept), "blob {} of {}", blob.digest.to_string(), reference.familiar());
        break;
    }
    if (progress) {
        const std::string id = blob.digest.to_string();
        progress->status(id, id, static_cast<std::int64_t>(blob.size), static_cast<std::int64_t>(blob.size), true);
    }
    return {};
}

Result<> ImageSource::unpack(const store::LayerRecord& record, store::LayerDraft draft, Below* below,
                             VertexProgress* progress, const Stop& stop) {
    const oci::Descriptor& blob = record.lazy->blob;
    const std::string id = blob.digest.to_string();
    // Layers of an archive have no reference: their blobs are in the store.
    const std::string& origin_name = record.lazy->reference;
    const sys::RootedDir into = TRY(draft.open());
    Unpacked unpacked;
    const auto extracting = [&](bool done) {
        if (progress) progress->status("extracting " + id, "extracting " + id, 0, 0, done);
    };
    auto from_store = [&]() -> Result<> {
        const auto ahead = codec::read_ahead(std::make_unique<OwnedVerifyingSource>(
            std::make_unique<sys::FdSource>(TRY(store_.open_blob(blob.digest))), blob));
        extracting(false);
        unpacked = TRY(unpack_stream(*ahead, into, limits_, stop));
        return {};
    };
    if (TRY(store_.blob_size(blob.digest))) {
        TRY(from_store());
    } else {
        if (origin_name.empty()) {
            return fail(Code::not_found, Blame::world, "layer {} is not in the store any more", id)
                .with_hint("load the image again");
        }
        const oci::Reference from = TRY(oci::Reference::parse_canonical(origin_name));
        store::Ingest ingest = TRY(store_.resume_blob(blob.digest, stop));
        if (ingest.offset() > 0 || TRY(store_.blob_size(blob.digest))) {
            // A part is here already: complete it first, then unpack from disk.
            {
                const store::Ingest release = std::move(ingest);
            }
            TRY(fetch_into_store(origin_, from, blob, progress, stop));
            TRY(from_store());
        } else {
            auto source = TRY(origin_.fetch_blob(from, blob, 0, stop));
            {
                const auto ahead =
                    codec::read_ahead(std::make_unique<KeepingSource>(std::move(source), ingest, blob, progress, stop));
                extracting(false);
                unpacked = TRY(unpack_stream(*ahead, into, limits_, stop));
            }
            TRY_CONTEXT(std::move(ingest).commit(blob.digest), "layer of {}", from.familiar());
            if (progress) {
                const auto size = static_cast<std::int64_t>(blob.size);
                progress->status(id, id, size, size, true);
            }
        }
    }
    if (record.info.diff_id && *record.info.diff_id != unpacked.diff_id) {
        return fail(Code::data_loss, Blame::world, "layer {} of {} unpacks to {} instead of {}", id, origin_name,
                    unpacked.diff_id.to_string(), record.info.diff_id->to_string())
            .with_hint("the image is damaged: its config does not fit its layers");
    }
    if (below && !unpacked.stats.implied_dirs.empty()) {
        TRY(below->wait(stop));
        std::vector<sys::RootedDir> lower;
        for (const store::LayerId id_below : below->layers) {
            lower.push_back(TRY(sys::RootedDir::open_host(store_.layer_path(id_below))));
        }
        TRY(adopt_directories(into, unpacked.stats.implied_dirs, lower));
    }
    store::LayerInfo info = record.info;
    info.size_bytes = unpacked.stats.bytes;
    info.diff_id = unpacked.diff_id;
    if (info.description.empty()) info.description = "pulled from " + origin_name;
    const store::LayerId layer = TRY(std::move(draft).commit(info));
    TRY(store_.add_layer_blob(layer,
                              store::LayerBlob{.compression = packing_name(unpacked.compression), .blob = blob}));
    extracting(true);
    return {};
}

Result<> ImageSource::materialize(store::LayerId layer, VertexProgress* progress, const Stop& stop) {
    return materialize_over(layer, nullptr, progress, stop);
}

Result<> ImageSource::materialize_over(store::LayerId layer, Below* below, VertexProgress* progress, const Stop& stop) {
    store::LayerRecord record = TRY(store_.layer(layer));
    if (record.on_disk) return {};
    auto draft = TRY(store_.begin_materialize(layer, stop));
    if (!draft) return {};
    record = TRY(store_.layer(layer));
    if (!record.lazy) {
        return fail(Code::internal, Blame::cooper, "layer {} is neither on disk nor known to a registry", layer);
    }
    return unpack(record, std::move(*draft), below, progress, stop);
}

Result<> ImageSource::materialize(const store::Chain& chain, VertexProgress* progress, const Stop& stop) {
    std::vector<std::size_t> missing;  // places in the chain, bottom first
    Guarded<Below::Progress> state;
    for (std::size_t i = 0; i < chain.layers.size(); ++i) {
        if (TRY(store_.layer(chain.layers[i])).on_disk) continue;
        if (state.lock()->unfinished.insert(chain.layers[i]).second) missing.push_back(i);
    }
    // A layer waits for lower ones only, and those are taken up first: no circle.
    return parallel_for(missing.size(), threads_, [&](std::size_t n) -> Result<> {
        const std::size_t at = missing[n];
        Below below{.progress = state, .layers = {chain.layers.begin(), chain.layers.begin() + static_cast<long>(at)}};
        Result<> done = materialize_over(chain.layers[at], &below, progress, stop);
        {
            auto now = state.lock();
            now->unfinished.erase(chain.layers[at]);
            if (!done && !now->error) now->error = done.error();
        }
        state.notify_all();
        return done;
    });
}

}  // namespace cooper::source
