#include "handover/docker.hpp"

#include "base/guarded.hpp"
#include "base/text.hpp"
#include "handover/detail/answer.hpp"
#include "handover/json_api.hpp"
#include "oci/reference.hpp"
#include "sys/fd.hpp"
#include "sys/process.hpp"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <thread>

namespace cooper::handover {
namespace {

using detail::parse_answer;
using nlohmann::json;

constexpr unsigned kVersion = 24;  // of the API, 1.N: what is asked is answered in the same way since
constexpr unsigned kTellsWhatIsThere = 47;
constexpr std::size_t kMaxImages = 5000;

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

class Docker final : public Receiver {
public:
    explicit Docker(JsonApi api) : api_(std::move(api)) {}
    Result<HandedOver> take(exporter::Packer& packer, const exporter::ArchiveImage& image, const Stop& stop) override;

private:
    Result<> ask_version(const Stop& stop);
    Result<std::size_t> layers_there(const oci::ImageConfig& config, const Stop& stop);
    Result<bool> name_it(const std::string& id, const std::vector<std::string>& names, const Stop& stop);
    Result<std::uint64_t> load(exporter::Packer& packer, const exporter::ArchiveImage& image, std::size_t without,
                               const Stop& stop);
    Result<bool> is_whole(const Digest& manifest, const Stop& stop);
    JsonApi api_;
    unsigned newest_ = 0;  // the version of its API, 1.N
    std::string version_;  // that it is spoken to in: "/v1.N"
    bool containerd_store_ = false;
};

// "1.47"
unsigned minor_of(const json& version, const char* name) {
    if (!version.is_object() || !version.contains(name) || !version[name].is_string()) return 0;
    const std::string text = version[name].get<std::string>();
    return text.starts_with("1.") ? static_cast<unsigned>(std::clamp<std::int64_t>(
                                        parse_int(std::string_view(text).substr(2)).value_or(0), 0, 10'000))
                                  : 0;
}

Result<> Docker::ask_version(const Stop& stop) {
    if (!version_.empty()) return {};
    const json version = TRY(parse_answer(TRY(api_.get("/version", stop))));
    newest_ = minor_of(version, "ApiVersion");
    version_ = fmt::format("/v1.{}", std::max(kVersion, minor_of(version, "MinAPIVersion")));
    return {};
}

// Whether all that this manifest names is in the daemon's containerd. Layers that it has unpacked it does not miss
// until somebody wants the image from it.
Result<bool> Docker::is_whole(const Digest& manifest, const Stop& stop) {
    const json images =
        TRY(parse_answer(TRY(api_.get(fmt::format("/v1.{}/images/json?all=1&manifests=1", kTellsWhatIsThere), stop))));
    if (!images.is_array()) return false;
    for (const auto& image : images) {
        if (!image.is_object() || !image.contains("Manifests") || !image["Manifests"].is_array()) continue;
        for (const auto& one : image["Manifests"]) {
            if (!one.is_object() || one.value("Available", json()) != json(true)) continue;
            if (one.value("ID", json()) == json(manifest.to_string())) return true;
        }
    }
    return false;
}

// How many layers, from the lowest, some image of the daemon begins with.
Result<std::size_t> Docker::layers_there(const oci::ImageConfig& config, const Stop& stop) {
    const json info = TRY(parse_answer(TRY(api_.get(version_ + "/info", stop))));
    containerd_store_ =
        info.is_object() && info.contains("DriverStatus") &&
        info["DriverStatus"].dump(-1, ' ', false, json::error_handler_t::replace).contains("io.containerd.");
    if (containerd_store_ && newest_ < kTellsWhatIsThere) return 0;
    const json images = TRY(parse_answer(TRY(api_.get(version_ + "/images/json?all=1", stop))));
    if (!images.is_array()) return bad_input("the daemon's list of images is none");
    std::size_t most = 0;
    std::size_t asked = 0;
    for (const auto& row : images) {
        if (!row.is_object() || !row.contains("Id") || !row["Id"].is_string() || ++asked > kMaxImages) continue;
        const auto text = api_.get(version_ + "/images/" + escaped(row["Id"].get<std::string>()) + "/json", stop);
        if (!text && text.error().code() == Code::not_found) continue;  // removed meanwhile
        const json image = TRY(parse_answer(TRY(Result<std::string>(text))));
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
Result<bool> Docker::name_it(const std::string& id, const std::vector<std::string>& names, const Stop& stop) {
    const auto known = api_.get(version_ + "/images/" + escaped(id) + "/json", stop);
    if (!known && known.error().code() == Code::not_found) return false;
    TRY(known);
    for (const auto& name : names) {
        const oci::Reference reference = TRY(oci::Reference::parse_normalized(name));
        const auto answer =
            TRY(api_.post(fmt::format("{}/images/{}/tag?repo={}&tag={}", version_, escaped(id),
                                      escaped(reference.familiar_repository()), escaped(reference.tag())),
                          stop));
        if (answer.status == 404) return false;
        if (answer.status != 201)
            return fail(Code::unavailable, Blame::world, "the daemon does not name it {}: {}", name,
                        message_of(answer.text));
    }
    return true;
}

Result<std::uint64_t> Docker::load(exporter::Packer& packer, const exporter::ArchiveImage& image, std::size_t without,
                                   const Stop& stop) {
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
    http::Headers headers;
    headers.add("Content-Type", "application/x-tar");
    const auto answer =
        TRY(api_.ask(http::Method::post, version_ + "/images/load?quiet=1", std::move(headers), std::move(body), stop));
    if (answer.status != 200)
        return fail(Code::unavailable, Blame::world, "the daemon answers {}: {}", answer.status,
                    message_of(answer.text));
    TRY(check_lines(answer.text));
    return count->load();
}

Result<HandedOver> Docker::take(exporter::Packer& packer, const exporter::ArchiveImage& image, const Stop& stop) {
    const exporter::PackedImage& main = image.image.main_image();
    HandedOver done{.layers = main.layers.size()};
    TRY(ask_version(stop));
    // An image is known by its configuration, and to containerd's store by its manifest.
    for (const Digest& id : {main.config.digest, image.image.target().digest}) {
        if (TRY(name_it(id.to_string(), image.names, stop))) return done;
    }
    const oci::ImageConfig config = TRY(oci::parse_image_config(main.config_bytes));
    const std::size_t there = TRY(layers_there(config, stop));
    auto sent = load(packer, image, there, stop);
    done.layers_sent = done.layers - there;
    std::uint64_t in_vain = 0;
    bool again = !sent && there > 0 && sent.error().code() == Code::aborted;  // it has removed one meanwhile
    if (sent && there > 0 && containerd_store_ && !TRY(is_whole(main.manifest.digest, stop))) {
        // A layer with the same files is there under the digest that it has when it is packed in another way.
        again = true;
        in_vain = *sent;
    }
    if (again) {
        sent = load(packer, image, 0, stop);
        done.layers_sent = done.layers;
    }
    done.bytes_sent = in_vain + TRY(sent);
    return done;
}

}  // namespace

Result<std::unique_ptr<Receiver>> open_docker(http::Client& client, const std::string& address) {
    std::string where = address;
    if (const char* env = std::getenv("DOCKER_HOST"); where.empty() && env != nullptr) where = env;
    if (where.empty()) where = "unix:///var/run/docker.sock";
    if (const char* tls = std::getenv("DOCKER_TLS_VERIFY");
        where.starts_with("tcp://") && tls != nullptr && *tls != '\0')
        return bad_input("the daemon {} wants TLS, which is not spoken here", quoted(where))
            .with_hint("use its socket, or pipe: cooper save IMAGE | docker load");
    return std::make_unique<Docker>(TRY(JsonApi::at(client, where, "", "docker")));
}

}  // namespace cooper::handover
