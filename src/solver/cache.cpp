#include "solver/cache.hpp"

#include <algorithm>
#include <cstddef>
#include <fmt/format.h>
#include <string_view>

// OpenSSL 3 calls these old-fashioned, but its EVP layer costs a millisecond on first use.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

namespace cooper::solver {
namespace {

Digest sha256_of(std::string_view text) {
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> raw{};
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, text.data(), text.size());
    SHA256_Final(raw.data(), &context);
    return Digest::sha256_from_raw(raw);
}

// Deletes a key and all that only it held. See Vertex::~Vertex.
void release_key(CacheKey* last) {
    std::vector<SharedKey> pending;
    const auto take_inputs = [&pending](CacheKey& key) {
        for (std::vector<CacheKey::Dep>& deps : key.inputs) {
            for (CacheKey::Dep& dep : deps) pending.push_back(std::move(dep.key));
        }
        key.inputs.clear();
    };
    take_inputs(*last);
    delete last;
    while (!pending.empty()) {
        const SharedKey key = std::move(pending.back());
        pending.pop_back();
        if (key && key.use_count() == 1) take_inputs(const_cast<CacheKey&>(*key));
    }
}

}  // namespace

SharedKey share_key(CacheKey key) {
    return SharedKey(new CacheKey(std::move(key)),
                     [](const CacheKey* last) { release_key(const_cast<CacheKey*>(last)); });
}

KeyId root_key_id(const Digest& digest, std::int32_t output) {
    return sha256_of(fmt::format("{}@{}", digest.to_string(), output)).to_string();
}

SharedKey make_root_key(const Digest& digest, std::int32_t output, const Digest& vertex, bool ephemeral) {
    CacheKey key{.digest = digest, .output = output, .ephemeral = ephemeral, .vertex = vertex};
    key.id = ephemeral ? fmt::format("random:{}@{}", digest.hex(), output) : root_key_id(digest, output);
    return share_key(std::move(key));
}

SharedKey make_content_key(const Digest& content) { return make_root_key(content, kContentOutput, Digest(), false); }

SharedKey make_alike_key(const Digest& content) {
    CacheKey key{.digest = content, .output = kContentOutput, .local = true};
    key.id = "alike:" + content.to_string();
    return share_key(std::move(key));
}

KeyId derived_key_id(const KeyId& op, const std::vector<std::vector<InputKey>>& inputs) {
    std::string text = "cooper.key.v2 " + op;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        std::vector<std::string> lines;
        for (const InputKey& one : inputs[i])
            lines.push_back(fmt::format("\n{} {} {}", i, one.selector.to_string(), one.key));
        std::ranges::sort(lines);
        for (const std::string& line : lines) text += line;
    }
    return sha256_of(text).to_string();
}

SharedKey make_derived_key(CacheKey parts) {
    std::vector<std::vector<InputKey>> inputs;
    for (const std::vector<CacheKey::Dep>& deps : parts.inputs) {
        std::vector<InputKey>& lasting = inputs.emplace_back();
        for (const CacheKey::Dep& dep : deps) {
            if (!dep.key->ephemeral && !dep.key->local) lasting.push_back({dep.selector, dep.key->id});
        }
        if (!lasting.empty()) continue;
        parts.ephemeral = true;
        for (const CacheKey::Dep& dep : deps) lasting.push_back({dep.selector, dep.key->id});
    }
    parts.id = derived_key_id(root_key_id(parts.digest, parts.output), inputs);
    if (parts.ephemeral) parts.id = "random:" + parts.id;
    return share_key(std::move(parts));
}

}  // namespace cooper::solver
