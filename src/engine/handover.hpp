// Handing images over to a daemon of this machine by Docker's API: it is asked what it has, and only what it lacks is
// sent, straight from the layers, without compressing them.
//
// A daemon that keeps images as layers takes an archive that lacks those it has. One with containerd's image store does
// not: it is given the whole image, unless it has that.
// https://docs.docker.com/reference/api/engine/
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "exporter/archive.hpp"
#include "http/client.hpp"

#include <cstdint>
#include <string>

namespace cooper::engine {

struct HandedOver {
    std::uint64_t layers = 0;  // of the image
    std::uint64_t layers_sent = 0;
    std::uint64_t bytes_sent = 0;  // of the archive
};

class DockerDaemon {
public:
    // address: "unix:///var/run/docker.sock" or "tcp://host:port"; empty = $DOCKER_HOST, else the former.
    [[nodiscard]] static Result<DockerDaemon> at(http::Client& client, const std::string& address);

    // Under its names; without one under its id.
    [[nodiscard]] Result<HandedOver> take(exporter::Packer& packer, const exporter::ArchiveImage& image,
                                          const Stop& stop);

private:
    DockerDaemon(http::Client& client, std::string url, std::string socket)
        : client_(client), url_(std::move(url)), socket_(std::move(socket)) {}
    [[nodiscard]] Result<http::Response> ask(http::Method method, const std::string& path,
                                             std::optional<http::Body> body, const Stop& stop);
    [[nodiscard]] Result<std::string> get(const std::string& path, const Stop& stop);
    [[nodiscard]] Result<std::size_t> layers_there(const oci::ImageConfig& config, const Stop& stop);
    [[nodiscard]] Result<bool> name_it(const std::string& id, const std::vector<std::string>& names, const Stop& stop);
    [[nodiscard]] Result<std::uint64_t> load(exporter::Packer& packer, const exporter::ArchiveImage& image,
                                             std::size_t without, const Stop& stop);

    http::Client& client_;
    std::string url_;
    std::string socket_;
};

}  // namespace cooper::engine
