// LoopbackRegistry: one image, to be read by an engine of this machine as from a registry: plain HTTP on a port of
// 127.0.0.1 that is free, for as long as the object lives. Whoever asks must know the password.
//
// Layers are written to the connection as they are asked for. A thread for each connection, at most 32.
// Spec: OCI distribution-spec, "Pull".
#pragma once

#include "exporter/packer.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace cooper::handover {

class LoopbackRegistry {
public:
    struct Sent {
        std::uint64_t layers = 0;  // each once
        std::uint64_t bytes = 0;   // of manifest, configuration and layers
    };

    // The packer and the image outlive it. stop ends transfers.
    static Result<std::unique_ptr<LoopbackRegistry>> start(exporter::Packer& packer, const exporter::PackedImage& image,
                                                           const Stop& stop);
    LoopbackRegistry(const LoopbackRegistry&) = delete;
    LoopbackRegistry& operator=(const LoopbackRegistry&) = delete;
    ~LoopbackRegistry();

    [[nodiscard]] std::string host() const;        // "127.0.0.1:34567"
    [[nodiscard]] std::string repository() const;  // host and a path
    [[nodiscard]] std::string reference() const;   // repository and a tag
    [[nodiscard]] const std::string& user() const;
    [[nodiscard]] const std::string& password() const;
    [[nodiscard]] Sent sent() const;
    // Why a layer could not be sent, should that be so: the engine only sees that it broke off.
    [[nodiscard]] std::optional<Error> failure() const;

private:
    struct State;
    explicit LoopbackRegistry(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace cooper::handover
