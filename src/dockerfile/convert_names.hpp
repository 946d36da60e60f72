// Names of steps as BuildKit shows them: "[linux/amd64 builder 2/8] RUN make". Pure.
#pragma once

#include "llb/state.hpp"
#include "oci/platform.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace cooper::dockerfile {

// Where a stage is in its steps.
struct StepCounter {
    std::string stage;  // empty: not shown
    int index = 0;
    int total = 0;  // 0: steps have no prefix at all
    bool on_build = false;
    bool show_platform = false;
};

// Counts one step and names it. `env`: of the stage, for "linux/amd64->arm64" when cross building.
[[nodiscard]] std::string step_name(StepCounter& counter, std::string_view command, const oci::Platform* platform,
                                    const llb::EnvList* env);

[[nodiscard]] llb::Platform to_llb_platform(const oci::Platform& platform);
[[nodiscard]] oci::Platform from_llb_platform(const llb::Platform& platform);

}  // namespace cooper::dockerfile
