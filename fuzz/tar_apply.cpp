// Applying a hostile layer: nothing may appear beside the root.
#include "layer/apply.hpp"
#include "sys/temp_dir.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto temp = cooper::sys::TempDir::create("/tmp", "fuzz-tar");
    if (!temp || !temp->dir().make_dirs("root", 0755)) std::abort();
    const auto root = temp->dir().open_dir("root");
    if (!root) std::abort();
    cooper::StringSource source(std::string(reinterpret_cast<const char*>(data), size));
    const cooper::layer::ApplyLimits limits{.max_entries = 1000, .max_bytes = 1 << 20};
    static_cast<void>(cooper::layer::apply_layer_tar(source, *root, limits, cooper::Stop()));
    const auto beside = cooper::sys::list_dir(temp->dir().fd());
    if (!beside || beside->size() != 1) std::abort();
    return 0;
}
