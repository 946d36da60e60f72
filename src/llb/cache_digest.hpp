// How an operation is cached, exactly as BuildKit does it: the sha256 of the operation as Go prints
// it in JSON, and per input either "by definition only" or what of its content counts.
// Sources are cached by what they resolve to; source_cache_digest wraps the string a source gives.
// Pure, any thread.
#pragma once

#include "base/digest.hpp"
#include "llb/op.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::llb {

// One path (or set of paths) of an input whose content is hashed (contenthash).
struct ContentSelector {
    std::string path;
    bool wildcard = false;
    bool follow_links = false;
    std::vector<std::string> include_patterns;
    std::vector<std::string> exclude_patterns;
    std::vector<std::string> required_paths;
    friend bool operator==(const ContentSelector&, const ContentSelector&) = default;
};

struct InputCacheInfo {
    // Part of the key that links this input to the result; empty when the whole input counts.
    Digest selector;
    // Not empty: the input may be known by the digest of these contents (the slow key). One selector
    // "/" means the whole tree. The key is the sha256 of their digests (as text), joined by NUL, also
    // when there is only one.
    std::vector<ContentSelector> content;
    // True when the input's bytes must be on disk before content is read (lazy images).
    bool needs_unlazy = false;
    [[nodiscard]] bool definition_only() const { return content.empty(); }
    friend bool operator==(const InputCacheInfo&, const InputCacheInfo&) = default;
};

struct OpCacheInfo {
    Digest digest;
    std::vector<InputCacheInfo> inputs;  // same order as Op::inputs
    std::string json;                    // the hashed text, to explain a miss
};

// For exec, file, merge, diff, build and passthrough. `platform` is the op's own, or the worker's
// default, normalised. A source op is refused (use source_cache_digest).
[[nodiscard]] Result<OpCacheInfo> cache_info(const Op& op, const Platform& platform);

// sha256("buildkit.source.v0:" + key).
[[nodiscard]] Digest source_cache_digest(std::string_view key);

}  // namespace cooper::llb
