// What to mount for a step that runs on a chain: data only; the executor mounts. Lower directories are named by short
// paths relative to a directory (chdir there first), so that 128 layers and more fit the one page that mount(2) takes.
#pragma once

#include "base/result.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace cooper::snapshot {

struct OverlayPlan {
    std::string lower_base;           // absolute; relative lower paths start here
    std::vector<std::string> lowers;  // top first, as overlayfs wants them
    std::string upper;                // absolute; empty = read-only
    std::string work;                 // absolute; on the same file system as upper
    std::string options;              // "lowerdir=…,upperdir=…,workdir=…" ready for mount(2)
};

enum class Access : std::uint8_t { read_only, read_write };

// layer_paths: absolute, bottom first, all below lower_base. Fails when the options would not fit in one page.
[[nodiscard]] Result<OverlayPlan> plan_overlay(const std::string& lower_base,
                                               const std::vector<std::string>& layer_paths, const std::string& upper,
                                               const std::string& work);

}  // namespace cooper::snapshot
