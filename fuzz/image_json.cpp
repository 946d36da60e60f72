// Manifests, indexes, descriptors and image configs: what parses must survive being written and read.
#include "oci/image_config.hpp"
#include "oci/manifest.hpp"

#include <cstddef>
#include <cstdint>

using namespace cooper::oci;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto config = parse_image_config(text)) {
        const std::string once = marshal_image_config(*config);
        const auto again = parse_image_config(once);
        CHECK(again && marshal_image_config(*again) == once);
    }
    if (const auto manifest = parse_manifest(text, "")) {
        const std::string once = marshal_manifest(*manifest);
        const auto again = parse_manifest(once, "");
        CHECK(again && marshal_manifest(*again) == once);
    }
    if (const auto index = parse_index(text, "")) {
        const auto chosen = select_platform(*index, host_platform());
        CHECK(chosen.size() <= index->manifests.size());
    }
    if (const auto descriptor = parse_descriptor(text)) CHECK(!marshal_descriptor(*descriptor).empty());
    return 0;
}
