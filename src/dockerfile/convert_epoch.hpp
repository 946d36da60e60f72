// SOURCE_DATE_EPOCH: seconds, or the name of something whose time it is.
// Blocks on `bridge`.
#pragma once

#include "dockerfile/convert_named.hpp"
#include "dockerfile/instructions.hpp"
#include "dockerfile/shell_lex.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cooper::dockerfile {

struct EpochScope {
    const ConvertOptions& options;
    const std::vector<Stage>& stages;
    const llb::EnvList& global_args;  // without SOURCE_DATE_EPOCH
    const ShellLex& lex;
    oci::Platform platform;
};

struct EpochSource {
    llb::State state;
    std::string log_name;
};

// "context", a named context, or a stage of nothing but one ADD of a URL or git repository. An error of a
// stage has `stage_lines` set to where it stands.
[[nodiscard]] Result<EpochSource> epoch_source(const std::string& value, const EpochScope& scope,
                                               frontend::Bridge& bridge, std::optional<Lines>& stage_lines, Stop stop);

}  // namespace cooper::dockerfile
