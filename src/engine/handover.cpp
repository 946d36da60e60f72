#include "engine/handover.hpp"

#include "base/guarded.hpp"
#include "base/text.hpp"
#include "oci/json_text.hpp"
#include "oci/reference.hpp"
#include "sys/fd.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <thread>

namespace cooper::engine {
namespace {

using nlohmann::json;

constexpr const char* kVersion = "/v1.24";  // old enough for every daemon, and its answers are the same since
constexpr std::size_t kMaxAnswer = 64 << 20;
constexpr std::size_t kMaxImages = 5000;

Result<std::string> text_of(http::Response& response) {
    std::string text;
    std::vector<std::byte> buffer(1 << 16);
    for (;;) {
        const std::size_t got = TRY(response.body->read(buffer));
        if (got == 0) return text;
        if (text.size() + got > kMaxAnswer) return bad_input("its answer is longer than {} bytes", kMaxAnswer);
        text += as_text(std::span(buffer).first(got));
    }
}

// A door: what a daemon answers may be anything.
Result<json> parse(const std::string& text) {
    TRY(oci::check_json_bounds(text, kMaxAnswer, "the daemon's answer"));
    json parsed = json::parse(text, nullptr, false);
    if (parsed.is_discarded()) return bad_input("its answer is no JSON");
    return parsed;
}

std::string message_of(const std::string& text) {
    const auto parsed = parse(text);
    if (!parsed || !parsed->is_object() || !parsed->contains("message") || !(*parsed)["message"].is_string())
        return text.substr(0, 200);
    return (*parsed)["message"].get<std::string>();
}

// An archive that is written while it is read.
class Archive final : public ByteSource {
public:
    using Write = std::function<Result<>(int fd)>;
    static Result<std::unique_ptr<Archive>> start(Write write, std::shared_ptr<std::atomic<std::uint64_t>> count) {
        sys::Pipe pipe = TRY(sys::make_pipe());
        static_cast<void>(::fcntl(pipe.write_end.get(), F_SETPIPE_SZ, 1 << 20));
        return std::unique_ptr<Archive>(new Archive(std::move(write), std::move(pipe), std::move(count)));
    }
    ~Archive() override {
        read_end_ = sys::Fd();  // the writer sees a broken pipe
    }
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        const std::size_t got = TRY(sys::read_some(read_end_.get(), buffer));
        *count_ += got;
        if (got == 0) TRY(Result<>(*result_.lock()));
        return got;
    }

private:
    Archive(Write write, sys::Pipe pipe, std::shared_ptr<std::atomic<std::uint64_t>> count)
        : read_end_(std::move(pipe.read_end)), count_(std::move(count)) {
        *count_ = 0;
        thread_ = std::jthread([this, write = std::move(write), out = std::move(pipe.write_end)]() mutable {
            auto done = write(out.get());
            *result_.lock() = std::move(done);
            out = sys::Fd();
        });
    }
    sys::Fd read_end_;
    std::shared_ptr<std::atomic<std::uint64_t>> count_;
    Guarded<Result<>> result_;
    std::jthread thread_;
};

// A name as a part of a query.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                           c == '_' || c == '.';
        out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
}

}  // namespace

Result<DockerDaemon> DockerDaemon::at(http::Client& client, const std::string& address) {
    std::string where = address;
    if (const char* env = std::getenv("DOCKER_HOST"); where.empty() && env != nullptr) where = env;
    if (where.empty()) where = "unix:///var/run/docker.sock";
    if (where.starts_with("unix://")) return DockerDaemon(client, "http://localhost", where.substr(7));
    const char* tls = std::getenv("DOCKER_TLS_VERIFY");
    if (where.starts_with("tcp://") && (tls == nullptr || *tls == '\0'))
        return DockerDaemon(client, "http://" + where.substr(6), "");
    return bad_input("the daemon {} cannot be reached from here", quoted(where))
        .with_hint("give unix://SOCKET or tcp://HOST:PORT without TLS; or pipe: cooper save IMAGE | docker load");
}

Result<http::Response> DockerDaemon::ask(http::Method method, const std::string& path, std::optional<http::Body> body,
                                         const Stop& stop) {
    http::Request request{.method = method, .url = url_ + kVersion + path, .unix_socket = socket_};
    request.redirects = http::Redirects::refuse;
    request.idle_timeout = std::chrono::minutes(10);  // it unpacks before it answers
    if (body) {
        request.headers.add("Content-Type", "application/x-tar");
        request.body = std::move(body);
    }
    auto response = client_.send(request, stop);
    if (!response && response.error().code() == Code::unavailable) {
        return response.error()
            .with_context(fmt::format("ask the daemon at {}", socket_.empty() ? url_ : socket_))
            .with_hint("is it running, and may you use its socket? DOCKER_HOST names another");
    }
    return response;
}

Result<std::string> DockerDaemon::get(const std::string& path, const Stop& stop) {
    http::Response response = TRY(ask(http::Method::get, path, std::nullopt, stop));
    std::string text = TRY(text_of(response));
    if (response.status == 404) return fail(Code::not_found, Blame::world, "{}", message_of(text));
    if (response.status != 200)
        return fail(Code::unavailable, Blame::world, "the daemon answers {}: {}", response.status, message_of(text));
    return text;
}

// How many layers, from the lowest, some image of the daemon begins with.
Result<std::size_t> DockerDaemon::layers_there(const oci::ImageConfig& config, const Stop& stop) {
    const json info = TRY(parse(TRY(get("/info", stop))));
    if (info.is_object() && info.contains("DriverStatus") &&
        info["DriverStatus"].dump(-1, ' ', false, json::error_handler_t::replace).contains("io.containerd."))
        return 0;
    const json images = TRY(parse(TRY(get("/images/json?all=1", stop))));
    if (!images.is_array()) return bad_input("the daemon's list of images is none");
    std::size_t most = 0;
    std::size_t asked = 0;
    for (const auto& row : images) {
        if (!row.is_object() || !row.contains("Id") || !row["Id"].is_string() || ++asked > kMaxImages) continue;
        const auto text = get("/images/" + escaped(row["Id"].get<std::string>()) + "/json", stop);
        if (!text && text.error().code() == Code::not_found) continue;  // removed meanwhile
        const json image = TRY(parse(TRY(Result<std::string>(text))));
        if (!image.is_object() || !image.contains("RootFS") || !image["RootFS"].is_object()) continue;
        const auto layers = image["RootFS"].find("Layers");
        if (layers == image["RootFS"].end() || !layers->is_array()) continue;
        std::size_t same = 0;
        while (same < layers->size() && same < config.diff_ids.size() && (*layers)[same].is_string() &&
               (*layers)[same].get<std::string>() == config.diff_ids[same].to_string()) {
            same++;
        }
        most = std::max(most, same);
    }
    return most;
}

// False when the daemon has no such image.
Result<bool> DockerDaemon::name_it(const std::string& id, const std::vector<std::string>& names, const Stop& stop) {
    const auto known = get("/images/" + escaped(id) + "/json", stop);
    if (!known && known.error().code() == Code::not_found) return false;
    TRY(known);
    for (const auto& name : names) {
        const oci::Reference reference = TRY(oci::Reference::parse_normalized(name));
        http::Response response =
            TRY(ask(http::Method::post,
                    fmt::format("/images/{}/tag?repo={}&tag={}", escaped(id), escaped(reference.familiar_repository()),
                                escaped(reference.tag())),
                    std::nullopt, stop));
        const std::string text = TRY(text_of(response));
        if (response.status == 404) return false;
        if (response.status != 201)
            return fail(Code::unavailable, Blame::world, "the daemon does not name it {}: {}", name, message_of(text));
    }
    return true;
}

Result<std::uint64_t> DockerDaemon::load(exporter::Packer& packer, const exporter::ArchiveImage& image,
                                         std::size_t without, const Stop& stop) {
    std::set<Digest> left_out;
    const auto& layers = image.image.main_image().layers;
    for (std::size_t i = 0; i < std::min(without, layers.size()); i++) left_out.insert(layers[i].blob.digest);
    for (std::size_t i = without; i < layers.size(); i++) left_out.erase(layers[i].blob.digest);
    const auto count = std::make_shared<std::atomic<std::uint64_t>>(0);
    NullProgress silent;
    const SystemClock clock;
    VertexProgress progress(silent, Digest{}, clock);
    http::Body body;
    body.open = [&]() -> Result<std::unique_ptr<ByteSource>> {
        auto archive = TRY(Archive::start(
            [&](int fd) {
                return exporter::write_archive_without(packer, {image}, exporter::ArchiveFormat::docker, left_out, fd,
                                                       progress, stop);
            },
            count));
        return std::unique_ptr<ByteSource>(std::move(archive));
    };
    http::Response response = TRY(ask(http::Method::post, "/images/load?quiet=1", std::move(body), stop));
    const std::string text = TRY(text_of(response));
    if (response.status != 200)
        return fail(Code::unavailable, Blame::world, "the daemon answers {}: {}", response.status, message_of(text));
    // Lines of JSON; what goes wrong after the first is told in one of them.
    for (const std::string& line : split(text, '\n')) {
        if (trim(line).empty()) continue;
        const auto said = parse(line);
        if (said && said->is_object() && said->contains("error") && (*said)["error"].is_string())
            return fail(Code::aborted, Blame::world, "the daemon refuses it: {}", (*said)["error"].get<std::string>());
    }
    return count->load();
}

Result<HandedOver> DockerDaemon::take(exporter::Packer& packer, const exporter::ArchiveImage& image, const Stop& stop) {
    const exporter::PackedImage& main = image.image.main_image();
    HandedOver done{.layers = main.layers.size()};
    // An image is known by its configuration, and to containerd's store by its manifest.
    for (const Digest& id : {main.config.digest, image.image.target().digest}) {
        if (TRY(name_it(id.to_string(), image.names, stop))) return done;
    }
    const oci::ImageConfig config = TRY(oci::parse_image_config(main.config_bytes));
    const std::size_t there = TRY(layers_there(config, stop));
    auto sent = load(packer, image, there, stop);
    done.layers_sent = done.layers - there;
    if (!sent && there > 0 && sent.error().code() == Code::aborted) {
        // It has removed one meanwhile.
        sent = load(packer, image, 0, stop);
        done.layers_sent = done.layers;
    }
    done.bytes_sent = TRY(sent);
    return done;
}

}  // namespace cooper::engine
