// Secrets, agents and credentials, each only by the name it was asked for.
#include "client/detail/services.hpp"
#include "proto/filesync.grpc.pb.h"
#include "proto/secrets.grpc.pb.h"
#include "proto/sshforward.grpc.pb.h"
#include "rpc/status.hpp"

#include <array>
#include <cerrno>
#include <grpcpp/server_context.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace cooper::client::detail {

namespace {

namespace secrets = moby::buildkit::secrets::v1;
namespace ssh = moby::sshforward::v1;
namespace auth = moby::filesync::v1;

constexpr std::size_t kPieceBytes = 32UL << 10U;

class SecretService final : public secrets::Secrets::Service {
public:
    explicit SecretService(Shared& shared) : shared_(shared) {}
    grpc::Status GetSecret(grpc::ServerContext* /*context*/, const secrets::GetSecretRequest* request,
                           secrets::GetSecretResponse* response) override {
        if (shared_.offer.values == nullptr) return grpc::Status(grpc::StatusCode::NOT_FOUND, "no secrets");
        const auto secret = shared_.offer.values->find_secret(request->id(), shared_.stop);
        if (!secret) return rpc::to_status(shared_.keep(secret.error()));
        if (!*secret) {
            return rpc::to_status(fail(Code::not_found, Blame::user, "secret {} not found", request->id()));
        }
        response->set_data((*secret)->reveal());
        return grpc::Status::OK;
    }

private:
    Shared& shared_;
};

class SshService final : public ssh::SSH::Service {
public:
    explicit SshService(Shared& shared) : shared_(shared) {}
    grpc::Status CheckAgent(grpc::ServerContext* /*context*/, const ssh::CheckAgentRequest* request,
                            ssh::CheckAgentResponse* /*response*/) override {
        const auto path = socket_of(request->id());
        return path ? grpc::Status::OK : rpc::to_status(path.error());
    }
    grpc::Status ForwardAgent(grpc::ServerContext* context,
                              grpc::ServerReaderWriter<ssh::BytesMessage, ssh::BytesMessage>* stream) override {
        const rpc::Metadata metadata = rpc::metadata_of(*context);
        const auto path = socket_of(std::string(rpc::find_value(metadata, "buildkit.ssh.id")));
        if (!path) return rpc::to_status(path.error());
        const auto agent = connect_agent(*path);
        if (!agent) return rpc::to_status(shared_.keep(agent.error()));
        {
            const std::jthread answers([&] {
                Bytes buffer(kPieceBytes);
                ssh::BytesMessage message;
                while (true) {
                    const auto n = sys::read_some(agent->get(), buffer);
                    if (!n || *n == 0) break;
                    message.set_data(buffer.data(), *n);
                    if (!stream->Write(message)) break;
                }
                // The agent has hung up: so do we, or nobody would wake the reader.
                if (!context->IsCancelled()) context->TryCancel();
            });
            ssh::BytesMessage message;
            while (stream->Read(&message)) {
                if (!sys::write_all(agent->get(), message.data())) break;
            }
            ::shutdown(agent->get(), SHUT_WR);
        }
        return grpc::Status::OK;
    }

private:
    // One forwarded socket for each agent, for as long as the session lives.
    Result<std::string> socket_of(const std::string& asked) {
        const std::string id = asked.empty() ? "default" : asked;
        auto agents = shared_.agents.lock();
        auto found = agents->find(id);
        if (found == agents->end()) {
            std::unique_ptr<session::SshSocket> socket;
            if (shared_.offer.values != nullptr) {
                auto opened = shared_.offer.values->open_ssh(id, {.uid = ::geteuid(), .gid = ::getegid(), .mode = 0600},
                                                             shared_.stop);
                if (!opened) return shared_.keep(opened.error());
                socket = std::move(*opened);
            }
            if (socket == nullptr) return fail(Code::not_found, Blame::user, "unset ssh forward key {}", id);
            found = agents->emplace(id, std::move(socket)).first;
        }
        return found->second->host_path();
    }
    static Result<sys::Fd> connect_agent(const std::string& path) {
        sys::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        if (path.size() >= sizeof address.sun_path)
            return bad_input("path of the agent's socket is too long: {}", path);
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        if (!fd.valid() || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
            return fail_errno(errno, "connect to the SSH agent");
        }
        return fd;
    }
    Shared& shared_;
};

// Tokens are fetched by the daemon: the calls for that stay unimplemented, and it falls back to these.
class AuthService final : public auth::Auth::Service {
public:
    explicit AuthService(Shared& shared) : shared_(shared) {}
    grpc::Status Credentials(grpc::ServerContext* /*context*/, const auth::CredentialsRequest* request,
                             auth::CredentialsResponse* response) override {
        if (shared_.offer.credentials == nullptr) return grpc::Status::OK;
        const std::string host = request->host() == "registry-1.docker.io" ? "docker.io" : request->host();
        const auto credential = shared_.offer.credentials->find(host, shared_.stop);
        if (!credential) return rpc::to_status(shared_.keep(credential.error()));
        if (!credential->identity_token.empty()) {
            response->set_secret(credential->identity_token);
        } else {
            response->set_username(credential->username);
            response->set_secret(credential->password);
        }
        return grpc::Status::OK;
    }

private:
    Shared& shared_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> value_services(Shared& shared) {
    std::vector<std::unique_ptr<grpc::Service>> services;
    services.push_back(std::make_unique<SecretService>(shared));
    services.push_back(std::make_unique<SshService>(shared));
    services.push_back(std::make_unique<AuthService>(shared));
    return services;
}

}  // namespace cooper::client::detail
