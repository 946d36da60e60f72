// Image archives of any bytes: no crash, nothing outside the store, and what was accepted can be opened again.
#include "exporter/load.hpp"
#include "exporter/packer.hpp"
#include "sys/temp_dir.hpp"

#include <cstdint>
#include <cstdlib>

namespace {

using namespace cooper;

struct World {
    SystemClock clock;
    NullProgress sink;
    VertexProgress progress{sink, Digest(), clock};
    sys::TempDir dir = sys::TempDir::create("/tmp", "fuzz-load").value();
    std::unique_ptr<store::Store> store = store::Store::open(dir.path() + "/state", clock).value();
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static World world;
    const exporter::LoadLimits limits{.max_members = 200, .max_bytes = 1 << 20};
    const auto loaded = exporter::load_archive(
        *world.store, std::make_unique<StringSource>(std::string(reinterpret_cast<const char*>(data), size)),
        oci::Platform{.os = "linux", .architecture = "amd64"}, limits, world.progress, Stop());
    if (!loaded) return 0;
    exporter::Packer packer(
        *world.store, [](store::LayerId, VertexProgress&, const Stop&) -> Result<> { return cancelled(); },
        [](const store::LazyLayer&, const Stop&) -> Result<std::unique_ptr<ByteSource>> { return cancelled(); }, 1);
    for (const auto& image : *loaded) {
        const auto opened = packer.open_image(image.record);
        if (!opened) std::abort();
        for (const auto& layer : opened->layers) {
            if (!packer.open_layer(layer, Stop())) std::abort();
        }
    }
    return 0;
}
