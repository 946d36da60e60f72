// Registry: the OCI distribution protocol (v1.1) as a client. Pulls and pushes manifests and blobs;
// never touches the disk. Every byte of a manifest is verified against its digest here; of a blob by
// whoever reads it (fetch_blob_verified does it).
//
// Any number of threads. Tokens are kept in memory per host and scope. Requests are retried with
// backoff (http::RetryPolicy); errors name the reference and say what to do.
//
// Errors: not_found (404), unauthenticated (401), permission_denied (403), resource_exhausted (429),
// unavailable (5xx, network), data_loss (digest differs), failed_precondition (schema 1).
#pragma once

#include "base/bytes.hpp"
#include "base/stop.hpp"
#include "http/client.hpp"
#include "oci/descriptor.hpp"
#include "oci/reference.hpp"
#include "registry/config.hpp"
#include "registry/credentials.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cooper::registry {

// Opens the content of a blob to be pushed, from its start; called again for each attempt.
using OpenBlob = std::function<Result<std::unique_ptr<ByteSource>>()>;

enum class Pushed : std::uint8_t { existed, mounted, uploaded };

struct PushBlob {
    oci::Descriptor blob;
    OpenBlob open;
    // Repositories on the same host that may already have it ("library/alpine"): tried in order.
    std::vector<std::string> mount_from;
    // Called with the number of bytes sent so far; may go back when an attempt starts again.
    std::function<void(std::uint64_t)> on_progress;
};

class Registry {
public:
    // credentials and client must outlive the registry.
    Registry(RegistryConfig config, CredentialSource& credentials, http::Client& client, http::RetryPolicy retry);
    Registry(const Registry&) = delete;
    Registry& operator=(const Registry&) = delete;
    ~Registry();

    // Name to descriptor (of a manifest or an index): one HEAD, and a GET where the HEAD does not
    // say enough. Mirrors are asked first. With a digest in the reference that digest is what counts.
    [[nodiscard]] Result<oci::Descriptor> resolve(const oci::Reference& reference, const Stop& stop);
    // At most 4 MiB, verified.
    [[nodiscard]] Result<std::string> fetch_manifest(const oci::Reference& repository, const Digest& digest,
                                                     const Stop& stop);
    // From `offset` on; NOT verified. A connection that breaks is resumed where it stopped, some
    // times. Foreign layers come from their urls when the registry does not have them.
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> fetch_blob(const oci::Reference& repository,
                                                                 const oci::Descriptor& blob, std::uint64_t offset,
                                                                 const Stop& stop);
    // All of it; the read that would end the stream fails with data_loss when size or digest differ.
    [[nodiscard]] Result<std::unique_ptr<ByteSource>> fetch_blob_verified(const oci::Reference& repository,
                                                                          const oci::Descriptor& blob,
                                                                          const Stop& stop);
    // Small blobs (configs) as text, verified.
    [[nodiscard]] Result<std::string> fetch_blob_text(const oci::Reference& repository, const oci::Descriptor& blob,
                                                      std::size_t limit_bytes, const Stop& stop);

    [[nodiscard]] Result<bool> blob_exists(const oci::Reference& repository, const Digest& digest, const Stop& stop);
    [[nodiscard]] Result<Pushed> push_blob(const oci::Reference& repository, const PushBlob& push, const Stop& stop);
    // Under the tag of the reference, or by its digest when there is none. A manifest that is already
    // there under that name is not sent again.
    [[nodiscard]] Result<Digest> push_manifest(const oci::Reference& reference, std::string_view media_type,
                                               std::string_view bytes, const Stop& stop);
    // Manifests that name `subject` as theirs (referrers API, else the tag scheme sha256-<hex>).
    [[nodiscard]] Result<std::vector<oci::Descriptor>> referrers(const oci::Reference& repository,
                                                                 const Digest& subject, const Stop& stop);

    // Asks the registry whether these credentials are good: for `login`. Returns what should be
    // stored (an identity token where the registry hands one out).
    [[nodiscard]] Result<Credential> check_login(const std::string& host, const Credential& credential,
                                                 const Stop& stop);

    // The inside, for the .cpp files of this room (detail/state.hpp).
    struct State;

private:
    std::unique_ptr<State> state_;
};

}  // namespace cooper::registry
