#include "oci/media_type.hpp"

#include <array>

namespace cooper::oci {
namespace {

// One row per thing that both families can say.
struct Pair {
    std::string_view oci;
    std::string_view docker;
};
constexpr std::array kPairs{
    Pair{kOciManifest, kDockerManifest},
    Pair{kOciIndex, kDockerIndex},
    Pair{kOciConfig, kDockerConfig},
    Pair{kOciLayer, kDockerLayer},
    Pair{kOciLayerGzip, kDockerLayerGzip},
    Pair{kOciLayerZstd, kDockerLayerZstd},
    Pair{kOciForeignLayer, kDockerForeignLayer},
    Pair{kOciForeignLayerGzip, kDockerForeignLayerGzip},
};

}  // namespace

bool is_manifest(std::string_view t) { return t == kOciManifest || t == kDockerManifest; }
bool is_index(std::string_view t) { return t == kOciIndex || t == kDockerIndex; }
bool is_config(std::string_view t) { return t == kOciConfig || t == kDockerConfig; }
bool is_schema1(std::string_view t) { return t == kDockerSchema1 || t == kDockerSchema1Signed; }
bool is_docker(std::string_view t) { return t.starts_with("application/vnd.docker."); }

bool is_foreign_layer(std::string_view t) {
    return t.starts_with(kOciForeignLayer) || t.starts_with(kDockerForeignLayer);
}

bool is_layer(std::string_view t) {
    return t.starts_with(kOciLayer) || t.starts_with(kDockerLayer) || is_foreign_layer(t);
}

Packing packing_of(std::string_view t) {
    if (t.ends_with("+gzip") || t.ends_with(".gzip")) return Packing::gzip;
    if (t.ends_with("+zstd") || t.ends_with(".zstd")) return Packing::zstd;
    return Packing::none;
}

std::string_view layer_media_type(Family family, Packing packing) {
    switch (packing) {
        case Packing::gzip:
            return family == Family::oci ? kOciLayerGzip : kDockerLayerGzip;
        case Packing::zstd:
            return family == Family::oci ? kOciLayerZstd : kDockerLayerZstd;
        case Packing::none:
            break;
    }
    return family == Family::oci ? kOciLayer : kDockerLayer;
}

std::string_view manifest_media_type(Family family) { return family == Family::oci ? kOciManifest : kDockerManifest; }
std::string_view index_media_type(Family family) { return family == Family::oci ? kOciIndex : kDockerIndex; }
std::string_view config_media_type(Family family) { return family == Family::oci ? kOciConfig : kDockerConfig; }

std::string_view to_family(std::string_view t, Family family) {
    for (const Pair& pair : kPairs) {
        if (t == pair.oci || t == pair.docker) return family == Family::oci ? pair.oci : pair.docker;
    }
    return t;
}

}  // namespace cooper::oci
