// What Azure's blob storage asks of whoever writes a blob: signatures with an account's key, and blocks. GitHub's cache
// hands out URLs of the same storage that are signed already.
#pragma once

#include "base/clock.hpp"
#include "cachestore/detail/caller.hpp"

namespace cooper::cachestore {

struct AzureKey {
    std::string account;
    std::string key;  // bytes, not base64
};

// Adds x-ms-date, x-ms-version and Authorization ("SharedKey"). x-ms headers and Range must be there before.
void sign_azure(http::Request& request, const AzureKey& key, Timestamp now);
// Only x-ms-version, of a URL that is signed.
void prepare_azure(http::Request& request);

enum class IfThere : std::uint8_t { replace, keep };
inline constexpr std::uint64_t kAzureBlockBytes = 32u << 20;
inline constexpr std::size_t kAzureBlocksAtOnce = 4;

// Writes a blob at `path` with `query` added: at once when it is no bigger than a block, else in blocks. Whether it was
// written; with IfThere::keep one that somebody else has written meanwhile stays.
[[nodiscard]] Result<bool> put_azure_blob(const detail::Caller& caller, const std::string& path,
                                          const detail::Query& query, const PutBlob& blob, IfThere if_there,
                                          std::uint64_t block_bytes, const std::string& what, const Stop& stop);
// size_bytes: of the blob; 0 when it is not known. The stream keeps a copy of the caller.
[[nodiscard]] Result<std::unique_ptr<ByteSource>> get_azure_blob(const detail::Caller& caller, const std::string& path,
                                                                 const detail::Query& query, const Range& range,
                                                                 std::uint64_t size_bytes, const std::string& what,
                                                                 const Stop& stop);

}  // namespace cooper::cachestore
