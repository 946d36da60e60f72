#include "handover/podman.hpp"

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "handover/json_api.hpp"
#include "handover/loopback_registry.hpp"
#include "oci/reference.hpp"
#include "sys/process.hpp"
#include "sys/temp_dir.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <nlohmann/json.hpp>

namespace cooper::handover {
namespace {

using nlohmann::json;

constexpr const char* kPrefix = "/v4.0.0/libpod";
constexpr std::size_t kMaxOutput = 1 << 20;

// What is asked of Podman, whichever way.
class Podman {
public:
    virtual ~Podman() = default;
    virtual Result<bool> has(const std::string& id, const Stop& stop) = 0;
    virtual Result<> pull(const LoopbackRegistry& from, const Stop& stop) = 0;
    // repository and tag are whole: "docker.io/library/app", "1".
    virtual Result<> tag(const std::string& id, const std::string& repository, const std::string& tag,
                         const Stop& stop) = 0;
    virtual Result<> untag(const std::string& id, const std::string& repository, const std::string& tag,
                           const Stop& stop) = 0;
};

class Service final : public Podman {
public:
    explicit Service(JsonApi api) : api_(std::move(api)) {}

    Result<bool> has(const std::string& id, const Stop& stop) override {
        const auto answer = api_.get(fmt::format("/images/{}/exists", escaped(id)), stop);
        if (!answer && answer.error().code() == Code::not_found) return false;
        TRY(answer);
        return true;
    }
    Result<> pull(const LoopbackRegistry& from, const Stop& stop) override {
        http::Headers headers;
        const json login = {{"username", from.user()}, {"password", from.password()}};
        // In the alphabet of URLs, with padding: that is how it is decoded.
        std::string word = codec::base64url_encode(login.dump());
        word.append((4 - word.size() % 4) % 4, '=');
        headers.add("X-Registry-Auth", std::move(word));
        const auto answer = TRY(api_.ask(http::Method::post,
                                         fmt::format("/images/pull?reference={}&tlsVerify=false&policy=always",
                                                     escaped("docker://" + from.reference())),
                                         std::move(headers), std::nullopt, stop));
        if (answer.status != 200)
            return fail(Code::aborted, Blame::world, "podman answers {}: {}", answer.status, message_of(answer.text));
        return check_lines(answer.text);
    }
    Result<> tag(const std::string& id, const std::string& repository, const std::string& tag,
                 const Stop& stop) override {
        return name(id, "tag", repository, tag, stop);
    }
    Result<> untag(const std::string& id, const std::string& repository, const std::string& tag,
                   const Stop& stop) override {
        return name(id, "untag", repository, tag, stop);
    }

private:
    Result<> name(const std::string& id, std::string_view what, const std::string& repository, const std::string& tag,
                  const Stop& stop) {
        const auto answer = TRY(api_.post(
            fmt::format("/images/{}/{}?repo={}&tag={}", escaped(id), what, escaped(repository), escaped(tag)), stop));
        if (answer.status == 201) return {};
        return fail(Code::unavailable, Blame::world, "podman does not {} it {}:{}: {}", what, repository, tag,
                    message_of(answer.text));
    }
    JsonApi api_;
};

class Program final : public Podman {
public:
    explicit Program(std::string path) : path_(std::move(path)) {}

    Result<bool> has(const std::string& id, const Stop& stop) override {
        const auto ran = TRY(run({"image", "exists", id}, stop));
        if (ran.status.code > 1) return failure("image exists", ran);
        return ran.status.code == 0;
    }
    Result<> pull(const LoopbackRegistry& from, const Stop& stop) override {
        // Other users of the machine see the words of a command, and not what is in this file.
        const char* tmp = std::getenv("TMPDIR");
        const auto folder =
            TRY(sys::TempDir::create(tmp != nullptr && *tmp != '\0' ? tmp : "/tmp", "cooper-handover-"));
        const std::string login = codec::base64_encode(from.user() + ":" + from.password());
        const json auth = {{"auths", {{from.host(), {{"auth", login}}}}}};
        const std::string path = folder.path() + "/auth.json";
        sys::Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (!file.valid()) return fail_errno(errno, path);
        TRY(sys::write_all(file.get(), auth.dump()));
        return call({"pull", "--quiet", "--tls-verify=false", "--authfile", path, "docker://" + from.reference()},
                    stop);
    }
    Result<> tag(const std::string& id, const std::string& repository, const std::string& tag,
                 const Stop& stop) override {
        return call({"tag", id, repository + ":" + tag}, stop);
    }
    Result<> untag(const std::string& id, const std::string& repository, const std::string& tag,
                   const Stop& stop) override {
        return call({"untag", id, repository + ":" + tag}, stop);
    }

private:
    Result<sys::Captured> run(std::vector<std::string> arguments, const Stop& stop) {
        sys::SpawnSpec spec;
        spec.program = path_;
        spec.args = {"podman"};
        for (auto& one : arguments) spec.args.push_back(std::move(one));
        return sys::run_captured(std::move(spec), "", kMaxOutput, stop);
    }
    static Error failure(const std::string& what, const sys::Captured& ran) {
        return fail(Code::aborted, Blame::world, "podman {} ends with {}: {}", what, ran.status.code,
                    trim(ran.err.empty() ? ran.out : ran.err));
    }
    Result<> call(std::vector<std::string> arguments, const Stop& stop) {
        const std::string what = arguments[0];
        const auto ran = TRY(run(std::move(arguments), stop));
        if (ran.status.code != 0) return failure(what, ran);
        return {};
    }
    std::string path_;
};

class PodmanReceiver final : public Receiver {
public:
    explicit PodmanReceiver(std::unique_ptr<Podman> podman) : podman_(std::move(podman)) {}

    Result<HandedOver> take(exporter::Packer& packer, const exporter::ArchiveImage& image, const Stop& stop) override {
        // Podman keeps one image under a name, not an index.
        const exporter::PackedImage& main = image.image.main_image();
        const std::string id = main.config.digest.hex();
        HandedOver done{.layers = main.layers.size()};
        if (!TRY(podman_->has(id, stop))) {
            const auto registry = TRY(LoopbackRegistry::start(packer, main, stop));
            const auto pulled = podman_->pull(*registry, stop);
            if (!pulled) {
                if (const auto cause = registry->failure()) return *cause;
                return pulled.error().with_hint(
                    "podman fetches the image from 127.0.0.1; if it is in another network, a virtual machine for "
                    "instance, pipe: cooper save IMAGE | podman load");
            }
            const auto sent = registry->sent();
            done.layers_sent = sent.layers;
            done.bytes_sent = sent.bytes;
            TRY(name_it(id, image.names, stop));
            const oci::Reference passing = TRY(oci::Reference::parse_normalized(registry->reference()));
            TRY(podman_->untag(id, passing.repository(), passing.tag(), stop));
            return done;
        }
        TRY(name_it(id, image.names, stop));
        return done;
    }

private:
    Result<> name_it(const std::string& id, const std::vector<std::string>& names, const Stop& stop) {
        for (const auto& name : names) {
            const oci::Reference reference = TRY(oci::Reference::parse_normalized(name));
            TRY(podman_->tag(id, reference.repository(), reference.tag(), stop));
        }
        return {};
    }
    std::unique_ptr<Podman> podman_;
};

}  // namespace

Result<std::unique_ptr<Receiver>> open_podman(http::Client& client, const std::string& address) {
    std::string where = address;
    if (const char* env = std::getenv("CONTAINER_HOST"); where.empty() && env != nullptr) where = env;
    if (where.empty()) {
        // In a user namespace of ours the program would be another user's, with other images.
        const bool user = std::getenv("COOPER_ROOTLESS") != nullptr;
        if (auto program = sys::find_program("podman"); program && !user)
            return std::make_unique<PodmanReceiver>(std::make_unique<Program>(std::move(*program)));
        const char* runtime = std::getenv("XDG_RUNTIME_DIR");
        where = fmt::format("unix://{}/podman/podman.sock",
                            user && runtime != nullptr && *runtime != '\0' ? runtime : "/run");
    }
    return std::make_unique<PodmanReceiver>(
        std::make_unique<Service>(TRY(JsonApi::at(client, where, kPrefix, "podman"))));
}

}  // namespace cooper::handover
