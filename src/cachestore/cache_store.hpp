// CacheStore: a place outside of this machine's state where the bytes of a cache are kept: blobs, found by their
// digests, and indexes, small texts under names, that say which blobs there are and what for.
//
// A registry, a content store of the client's and object stores offer the same; what the texts mean is the caller's. A
// writer puts all blobs first and the index last, so that a reader never finds an index whose blobs are still missing.
//
// Names: "" is the cache's own index (a registry's tag, the `name` of an object store). Others stand beside it: at most
// 64 of [a-z0-9._-], beginning with a letter or digit. Errors name the place; not_found for a blob that is not there,
// invalid_argument for what the place cannot take. Requests are tried again a bounded number of times on connection
// errors, 408, 429 (after what Retry-After asks) and 5xx.
//
// Any number of threads; calls block.
#pragma once

#include "base/bytes.hpp"
#include "base/stop.hpp"
#include "oci/descriptor.hpp"
#include "registry/registry.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::cachestore {

inline constexpr std::size_t kMaxIndexBytes = 64u << 20;
inline constexpr std::size_t kMaxNameBytes = 64;

// A blob to be put: its size and digest are known, its bytes can be opened from their start for each attempt.
using PutBlob = registry::PushBlob;
using Put = registry::Pushed;

struct Range {
    std::uint64_t offset = 0;
    std::uint64_t length = std::numeric_limits<std::uint64_t>::max();  // what lies beyond the end is not missed
};
inline constexpr Range kWhole{};

struct Index {
    std::string media_type;  // of the text; not known when read from where only the text is kept
    std::string text;
    // What the text is about. Where has_blob_lists() these are written beside the text (which keeps a registry from
    // collecting them) and are read from there; elsewhere the text must say everything, and the list is empty when
    // read.
    std::vector<oci::Descriptor> blobs;
    // The text may stand in the manifest itself, too, so that a reader needs one answer less. Only written.
    bool embed = false;
    // Only read: the text is that of an image's configuration (moby.buildkit.cache.v0), blobs are the image's layers,
    // and these are what the layers unpack to.
    bool of_image = false;
    std::vector<Digest> diff_ids;
};

class CacheStore {
public:
    virtual ~CacheStore() = default;

    // For messages: "registry.example.com/shop/cache:latest", "s3://bucket/prefix". Without secrets.
    [[nodiscard]] virtual const std::string& place() const = 0;
    // A reference that any later build can fetch the blobs by; empty when they can only be had through this object.
    [[nodiscard]] virtual std::string reference() const = 0;
    // Whether descriptors of blobs are kept beside the text of an index.
    [[nodiscard]] virtual bool has_blob_lists() const = 0;
    // Whether names are kept there. False: the client says what they stand for, and is told what is to have them.
    [[nodiscard]] virtual bool names_are_ours() const { return true; }
    // How many blobs are to be put at once.
    [[nodiscard]] virtual std::size_t parallelism() const = 0;

    [[nodiscard]] virtual Result<bool> has(const Digest& blob, const Stop& stop) = 0;
    // Does not open the blob when the place has it.
    [[nodiscard]] virtual Result<Put> put(const PutBlob& blob, const Stop& stop) = 0;
    // NOT verified: whoever reads the whole of it does that. The size may be left at 0 when it is not known. The store
    // must outlive the stream.
    [[nodiscard]] virtual Result<std::unique_ptr<ByteSource>> get(const oci::Descriptor& blob, const Range& range,
                                                                  const Stop& stop) = 0;
    // Everything known under a name; not_found when there is no such name, none when what has it is no cache. Several
    // where the place holds several caches as one: scopes of a GitHub token, names with ';' between them, the images of
    // an image index.
    [[nodiscard]] virtual Result<std::vector<Index>> get_indexes(const std::string& name, const Stop& stop) = 0;
    // In the place of what had the name. Returns what says that it is written: of a store with blob lists the
    // descriptor of the manifest, of others that of the text.
    [[nodiscard]] virtual Result<oci::Descriptor> put_index(const std::string& name, const Index& index,
                                                            const Stop& stop) = 0;
};

// invalid_argument; see above.
[[nodiscard]] Result<> check_index_name(std::string_view name);

}  // namespace cooper::cachestore
