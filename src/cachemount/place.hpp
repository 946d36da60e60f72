// Place: where cache mounts are kept so that other machines find them: blobs by digest, and manifests by name.
//
// A head is an OCI manifest: index parts, then packs, as layers. Implementations are above this room (registries,
// directories of the client, object stores).
#pragma once

#include "base/stop.hpp"
#include "cachemount/index.hpp"
#include "oci/manifest.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cooper::cachemount {

inline constexpr std::string_view kArtifactType = "application/vnd.cooper.cachemount.v1";
inline constexpr std::string_view kPartType = "application/vnd.cooper.cachemount.index.v1+zstd";
inline constexpr std::string_view kPackType = "application/vnd.cooper.cachemount.pack.v1+zstd";

class Place {
public:
    virtual ~Place() = default;
    // Tells it from others; the same for the same place, whoever asks.
    [[nodiscard]] virtual std::string identity() const = 0;
    // The bytes of the manifest of that name; nullopt when there is none.
    virtual Result<std::optional<std::string>> read_head(const std::string& name, const Stop& stop) = 0;
    // Instead of `before`, the bytes that were read (nullopt: none was there). aborted when it is another one by now,
    // as far as the place can tell.
    virtual Result<> write_head(const std::string& name, const std::string& manifest,
                                const std::optional<std::string>& before, const Stop& stop) = 0;
    // After a head was written: until whoever had read the one before is likely to have written his. A place that never
    // takes a head that follows another one need not wait.
    virtual Result<> settle(const Stop& stop) = 0;
    // Adds nothing where it is there already.
    virtual Result<> put(const oci::Descriptor& blob, std::string bytes, const Stop& stop) = 0;
    // length bytes from offset; fewer are data_loss. not_found when the blob is gone.
    virtual Result<std::string> read(const oci::Descriptor& blob, std::uint64_t offset, std::uint64_t length,
                                     const Stop& stop) = 0;
};

// What a head's manifest says.
struct Head {
    std::vector<oci::Descriptor> parts;  // oldest first
    std::vector<oci::Descriptor> packs;
    std::string id;  // of the mount
    std::string scope;
    std::string lineage;  // the same for all that have followed one another since the first
    std::string before;   // digest of the manifest that this one has replaced; may be empty
};

[[nodiscard]] Result<Head> parse_head(std::string_view manifest);
[[nodiscard]] std::string marshal_head(const Head& head);
// "{}": the configuration that the manifest names.
[[nodiscard]] oci::Descriptor empty_config();

}  // namespace cooper::cachemount
