// Workshop: what the operations of one build work with: the client's session, registries as the client
// may see them, trees and packed layers. Lives as long as one of the build's operations, which may be
// longer than the build: another build may share them.
// Any thread.
#pragma once

#include "cachestore/cache_store.hpp"
#include "engine/local_engine.hpp"
#include "engine/mount_caches.hpp"
#include "ops/environment.hpp"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::engine {

class Workshop final : private ops::LayerFetcher, private source::ImageOrigin {
public:
    // credentials: whose registries are asked; null = those of the session.
    // store: the build's own view; what it holds is let go of with the last that this build made.
    Workshop(LocalEngine& engine, std::shared_ptr<store::Store> store, std::shared_ptr<session::Session> session,
             FindSession find_session, registry::CredentialSource* credentials);

    // A local context that is there already, as layers (a tar from standard input).
    void add_local(const std::string& name, store::Chain chain);
    [[nodiscard]] const store::Chain* local_chain(const std::string& name) const;

    // Local contexts of this process have the modes that git would record.
    void use_git_modes() { modes_ = snapshot::Modes::git; }

    // The client that an attribute names ("local.session"), else the build's own.
    Result<std::shared_ptr<session::Session>> client(const std::string& session_id, const Stop& stop);
    // Of "oci-layout://": by its store and session.
    Result<std::unique_ptr<source::ImageOrigin>> layout_origin(const std::string& store_id,
                                                               const std::string& session_id, const Stop& stop);

    // Blobs that a cache of this build has: they are fetched from there first. Lazy layers of a store that no other
    // build can find have kCacheContent as their reference.
    static constexpr const char* kCacheContent = "client-content.invalid/cache:latest";
    void add_content(const Digest& blob, std::shared_ptr<cachestore::CacheStore> store);
    // Whether layers that were imported could not be fetched since the last time. Their results are dropped from the
    // cache already; a step that needs them is to be run instead.
    [[nodiscard]] bool take_lost_layers() { return lost_layers_.exchange(false); }

    // From now on the files of the first step that fails are kept.
    void want_failed_step();
    struct FailedStep {
        std::string name;
        store::Chain files;
    };
    [[nodiscard]] std::optional<FailedStep> failed_step() { return *failed_step_.lock(); }

    // What a source of this build was found to be.
    [[nodiscard]] std::optional<ops::SourcePin> pin_of(const Digest& vertex);

    [[nodiscard]] ops::Environment& environment() { return environment_; }
    [[nodiscard]] store::Store& store() { return *store_; }
    [[nodiscard]] source::HttpSource& http() { return http_; }
    [[nodiscard]] source::GitSource& git() { return git_; }
    [[nodiscard]] session::Session& session() { return *session_; }
    [[nodiscard]] ops::SecretGuard& secrets() { return secrets_; }
    [[nodiscard]] registry::Registry& registry() { return registry_; }
    // Another one, which believes the hosts of these names without certificates. Where the configuration says how a
    // host is spoken to, that holds.
    [[nodiscard]] std::unique_ptr<registry::Registry> insecure_registry(const std::vector<oci::Reference>& names,
                                                                        registry::Scheme scheme);
    [[nodiscard]] source::ImageSource& images() { return images_; }
    [[nodiscard]] ops::Trees& trees() { return trees_; }
    [[nodiscard]] exporter::Packer& packer() { return packer_; }
    [[nodiscard]] MountCaches& mounts() { return mounts_; }

private:
    class SessionCredentials final : public registry::CredentialSource {
    public:
        explicit SessionCredentials(session::Session& session) : session_(session) {}
        Result<registry::Credential> find(const std::string& host, const Stop& stop) override;

    private:
        session::Session& session_;
    };
    Result<> materialize(const store::Chain& chain, VertexProgress& progress, Stop stop) override;
    // source::ImageOrigin: the client's content stores, and registries
    Result<oci::Descriptor> resolve(const oci::Reference& reference, const Stop& stop) override;
    Result<std::string> fetch_manifest(const oci::Reference& reference, const Digest& digest,
                                       const Stop& stop) override;
    Result<std::unique_ptr<ByteSource>> fetch_blob(const oci::Reference& reference, const oci::Descriptor& blob,
                                                   std::uint64_t offset, const Stop& stop) override;
    void note_lost(const store::Chain& chain, const Error& error);
    Result<solver::SharedResult> open_local(const std::string& name,
                                            const std::map<std::string, std::string>& attributes,
                                            VertexProgress& progress, const Stop& stop);

    LocalEngine& engine_;
    std::shared_ptr<store::Store> store_;
    std::shared_ptr<session::Session> session_;
    FindSession find_session_;
    SessionCredentials session_credentials_;
    registry::CredentialSource& credentials_;
    registry::Registry registry_;
    source::RegistryOrigin origin_;
    source::ImageSource images_;
    source::HttpSource http_;
    source::GitSource git_;
    ops::SecretGuard secrets_;
    ops::Trees trees_;
    exporter::Packer packer_;
    MountCaches mounts_;
    std::map<std::string, store::Chain> chains_;
    snapshot::Modes modes_ = snapshot::Modes::as_they_are;
    Guarded<std::map<Digest, std::vector<std::shared_ptr<cachestore::CacheStore>>>> contents_;
    std::atomic<bool> lost_layers_ = false;
    Guarded<std::optional<FailedStep>> failed_step_;
    Guarded<std::map<Digest, ops::SourcePin>> pins_;
    Guarded<std::map<std::string, std::shared_ptr<source::LocalContext>>> opened_;  // by what was wanted
    ops::Environment environment_;
};

}  // namespace cooper::engine
