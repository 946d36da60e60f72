// Operations as Go's encoding/json prints BuildKit's generated structs: member names and order of the
// .proto file, everything empty left out. Only cache keys are made from this.
#pragma once

#include "llb/op.hpp"

#include <string>

namespace cooper::llb {

[[nodiscard]] std::string to_go_json(const ExecOp& exec);
[[nodiscard]] std::string to_go_json(const MergeOp& merge);
[[nodiscard]] std::string to_go_json(const DiffOp& diff);
[[nodiscard]] std::string to_go_json(const BuildOp& build);
[[nodiscard]] std::string to_go_json(const PassthroughOp& pass);
// The action itself, without its indices.
[[nodiscard]] std::string to_go_json(const CopyAction& copy);
[[nodiscard]] std::string to_go_json(const MkFileAction& file);
[[nodiscard]] std::string to_go_json(const MkDirAction& dir);
[[nodiscard]] std::string to_go_json(const RmAction& rm);
[[nodiscard]] std::string to_go_json(const SymlinkAction& link);

}  // namespace cooper::llb
