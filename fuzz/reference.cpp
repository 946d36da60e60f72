// Image names and platforms: whatever is accepted must print to something that parses to itself.
#include "oci/reference.hpp"

#include "oci/platform.hpp"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    if (const auto reference = cooper::oci::Reference::parse_normalized(text)) {
        const auto again = cooper::oci::Reference::parse_canonical(reference->canonical());
        CHECK(again && *again == *reference);
        const auto familiar = cooper::oci::Reference::parse_normalized(reference->familiar());
        CHECK(familiar && *familiar == *reference);
    }
    if (const auto platform = cooper::oci::parse_platform(text)) {
        CHECK(cooper::oci::normalize(*platform) == *platform);
        CHECK(cooper::oci::matches(*platform, *platform));
    }
    return 0;
}
