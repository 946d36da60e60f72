// Definition: a build as LLB carries it. The bytes of every operation (their sha256 is their name),
// metadata that is outside that name, and where in which source file each came from.
// A value. Last entry of `ops` is the terminal operation; an empty `ops` is scratch.
#pragma once

#include "base/digest.hpp"
#include "base/result.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace cooper::llb {

struct OpProgressGroup {
    std::string id;
    std::string name;
    bool weak = false;
    friend bool operator==(const OpProgressGroup&, const OpProgressGroup&) = default;
};

struct LinuxResources {
    std::int64_t memory_bytes = 0;
    std::int64_t memory_swap_bytes = 0;  // -1 = unlimited
    std::uint64_t cpu_shares = 0;
    std::uint64_t cpu_period_us = 0;
    std::int64_t cpu_quota_us = 0;
    std::string cpuset_cpus;
    std::string cpuset_mems;
    friend bool operator==(const LinuxResources&, const LinuxResources&) = default;
};

struct OpMetadata {
    bool ignore_cache = false;
    std::map<std::string, std::string> description;  // kCustomName = display name
    std::optional<bool> export_cache;
    std::map<std::string, bool> caps;
    std::optional<OpProgressGroup> progress_group;
    std::optional<LinuxResources> linux_resources;
    friend bool operator==(const OpMetadata&, const OpMetadata&) = default;
};

struct Position {
    std::int32_t line = 0;  // 1-based
    std::int32_t character = 0;
    friend bool operator==(const Position&, const Position&) = default;
};
struct Range {
    Position start;
    Position end;
    friend bool operator==(const Range&, const Range&) = default;
};
struct Location {
    std::int32_t source_index = 0;  // into SourceMap::infos
    std::vector<Range> ranges;
    friend bool operator==(const Location&, const Location&) = default;
};
struct SourceInfo {
    std::string filename;
    std::string data;
    std::string definition;  // marshalled Definition, may be empty
    std::string language;    // "Dockerfile"
    friend bool operator==(const SourceInfo&, const SourceInfo&) = default;
};
struct SourceMap {
    std::map<std::string, std::vector<Location>> locations;  // by op digest text
    std::vector<SourceInfo> infos;
    friend bool operator==(const SourceMap&, const SourceMap&) = default;
};

struct Definition {
    std::vector<std::string> ops;
    std::map<std::string, OpMetadata> metadata;  // by op digest text
    std::optional<SourceMap> source;
    friend bool operator==(const Definition&, const Definition&) = default;
    [[nodiscard]] bool is_scratch() const { return ops.empty(); }
};

}  // namespace cooper::llb
