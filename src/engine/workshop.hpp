// Workshop: what the operations of one build work with: the client's session, registries as the client
// may see them, trees and packed layers. Lives as long as one of the build's operations, which may be
// longer than the build: another build may share them.
// Any thread.
#pragma once

#include "engine/local_engine.hpp"
#include "ops/environment.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::engine {

class Workshop final : private ops::LayerFetcher {
public:
    // credentials: whose registries are asked; null = those of the session.
    Workshop(LocalEngine& engine, std::shared_ptr<session::Session> session, FindSession find_session,
             registry::CredentialSource* credentials);

    // A local context that is there already, as layers (a tar from standard input).
    void add_local(const std::string& name, store::Chain chain);
    [[nodiscard]] const store::Chain* local_chain(const std::string& name) const;

    // The client that an attribute names ("local.session"), else the build's own.
    Result<std::shared_ptr<session::Session>> client(const std::string& session_id, const Stop& stop);
    // Of "oci-layout://": by its store and session.
    Result<std::unique_ptr<source::ImageOrigin>> layout_origin(const std::string& store_id,
                                                               const std::string& session_id, const Stop& stop);

    [[nodiscard]] ops::Environment& environment() { return environment_; }
    [[nodiscard]] session::Session& session() { return *session_; }
    [[nodiscard]] registry::Registry& registry() { return registry_; }
    [[nodiscard]] source::ImageSource& images() { return images_; }
    [[nodiscard]] ops::Trees& trees() { return trees_; }
    [[nodiscard]] exporter::Packer& packer() { return packer_; }

private:
    class SessionCredentials final : public registry::CredentialSource {
    public:
        explicit SessionCredentials(session::Session& session) : session_(session) {}
        Result<registry::Credential> find(const std::string& host, const Stop& stop) override;

    private:
        session::Session& session_;
    };
    Result<> materialize(const store::Chain& chain, VertexProgress& progress, Stop stop) override;
    Result<solver::SharedResult> open_local(const std::string& name,
                                            const std::map<std::string, std::string>& attributes,
                                            VertexProgress& progress, const Stop& stop);

    LocalEngine& engine_;
    std::shared_ptr<session::Session> session_;
    FindSession find_session_;
    SessionCredentials session_credentials_;
    registry::Registry registry_;
    source::RegistryOrigin origin_;
    source::ImageSource images_;
    ops::Trees trees_;
    exporter::Packer packer_;
    std::map<std::string, store::Chain> chains_;
    Guarded<std::map<std::string, std::shared_ptr<source::LocalContext>>> opened_;  // by what was wanted
    ops::Environment environment_;
};

}  // namespace cooper::engine
