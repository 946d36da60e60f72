#include "handover/containerd.hpp"

#include "base/clock.hpp"
#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "codec/wire.hpp"
#include "oci/media_type.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <unistd.h>

namespace cooper::handover {
namespace {

using codec::WireReader;
using codec::WireWriter;
using Labels = std::map<std::string, std::string>;

constexpr std::size_t kPiece = 1 << 20;
constexpr std::size_t kAhead = 4;  // of answers
constexpr std::size_t kAtOnce = 3;
constexpr std::chrono::hours kLease{24};  // should we not come to end it
constexpr std::chrono::milliseconds kPause{500};
constexpr int kPauses = 240;
constexpr std::string_view kRefersTo = "containerd.io/gc.ref.content.";

// What the services' methods take and give: only the fields that are used here.
namespace content {
enum Action : std::uint8_t { stat = 0, write = 1, commit = 2 };
constexpr unsigned kAction = 1, kRef = 2, kTotal = 3, kExpected = 4, kOffset = 5, kData = 6, kLabels = 7;
constexpr unsigned kAnswerOffset = 4;
}  // namespace content

void put_labels(WireWriter& message, unsigned field, const Labels& labels) {
    for (const auto& [key, value] : labels) {
        WireWriter entry;
        entry.text(1, key);
        entry.text(2, value);
        message.element(field, entry.bytes());
    }
}

WireWriter write_request(content::Action action, const oci::Descriptor& blob, std::uint64_t offset) {
    WireWriter message;
    message.uint(content::kAction, action);
    message.text(content::kRef, "cooper-" + blob.digest.to_string());
    message.uint(content::kTotal, blob.size);
    message.text(content::kExpected, blob.digest.to_string());
    message.uint(content::kOffset, offset);
    return message;
}

// containerd, as one that hands over sees it: in a namespace and with a lease.
class Api {
public:
    Api(GrpcPeer& peer, const std::string& name_space) : peer_(peer) {
        metadata_.emplace_back("containerd-namespace", name_space);
    }
    void use_lease(const std::string& id) { metadata_.emplace_back("containerd-lease", id); }

    [[nodiscard]] std::unique_ptr<GrpcCall> call(const std::string& method, const Stop& stop) const {
        return peer_.call("/containerd.services." + method, metadata_, stop);
    }
    [[nodiscard]] Result<std::string> ask(const std::string& method, const std::string& message,
                                          const Stop& stop) const {
        const auto asked = call(method, stop);
        std::string answer;
        // What failed is told by read().
        if (asked->write(message)) static_cast<void>(asked->close_write());
        if (!TRY(asked->read(answer)))
            return fail(Code::data_loss, Blame::world, "containerd does not answer {}", method);
        std::string more;
        if (TRY(asked->read(more))) return fail(Code::data_loss, Blame::world, "containerd answers {} twice", method);
        return answer;
    }

private:
    GrpcPeer& peer_;
    std::vector<std::pair<std::string, std::string>> metadata_;
};

// One call that writes a blob.
class Writing {
public:
    Writing(const Api& api, const oci::Descriptor& blob, const Stop& stop)
        : blob_(blob), call_(api.call("content.v1.Content/Write", stop)) {}

    // How much of it is written already, by an earlier transfer or for another namespace.
    Result<std::uint64_t> begin() {
        TRY(send(write_request(content::stat, blob_, 0), ""));
        TRY(hear(0));
        if (offset_ > blob_.size)
            return fail(Code::data_loss, Blame::world, "containerd has {} of {} bytes", offset_, blob_.size);
        return offset_;
    }
    Result<> add(std::string_view piece) {
        WireWriter message = write_request(content::write, blob_, offset_);
        message.head(content::kData, piece.size());
        TRY(send(message, piece));
        offset_ += piece.size();
        return hear(kAhead);
    }
    Result<> commit(const Labels& labels) {
        WireWriter message = write_request(content::commit, blob_, offset_);
        put_labels(message, content::kLabels, labels);
        TRY(send(message, ""));
        TRY(call_->close_write());
        std::string rest;
        while (TRY(call_->read(rest))) continue;
        return {};
    }

private:
    Result<> send(const WireWriter& message, std::string_view piece) {
        buffer_ = message.bytes();
        buffer_ += piece;
        unanswered_++;
        const auto sent = call_->write(buffer_);
        if (sent) return {};
        std::string rest;
        while (TRY(call_->read(rest))) continue;
        return sent;
    }
    // Until no more than these are without an answer.
    Result<> hear(std::size_t at_most) {
        for (std::string answer; unanswered_ > at_most; unanswered_--) {
            if (!TRY(call_->read(answer)))
                return fail(Code::unavailable, Blame::world, "containerd ended the call too early");
            if (at_most > 0) continue;
            for (WireReader response(answer); !response.done();) {
                const auto field = TRY(response.next());
                if (field.id == content::kAnswerOffset && field.is_number()) offset_ = field.number;
            }
        }
        return {};
    }
    const oci::Descriptor& blob_;
    std::unique_ptr<GrpcCall> call_;
    std::string buffer_;
    std::uint64_t offset_ = 0;
    std::size_t unanswered_ = 0;
};

// What is to be there in the end.
struct Wanted {
    oci::Descriptor blob;
    Labels labels;  // what must stay with it
    std::function<Result<std::unique_ptr<ByteSource>>()> open;
};

// A lease of ours while it lives.
class Lease {
public:
    static Result<std::unique_ptr<Lease>> take(Api& api, const Stop& stop) {
        std::array<std::uint64_t, 2> random{};
        if (::getentropy(random.data(), sizeof random) != 0) return fail_errno(errno, "random numbers");
        auto lease = std::unique_ptr<Lease>(new Lease(api, fmt::format("cooper-{:016x}{:016x}", random[0], random[1])));
        const Timestamp end = SystemClock().now() + kLease;
        WireWriter message;
        message.text(1, lease->id_);
        put_labels(message, 3, {{"containerd.io/gc.expire", format_rfc3339(end)}});
        TRY(api.ask("leases.v1.Leases/Create", message.bytes(), stop));
        lease->taken_ = true;
        api.use_lease(lease->id_);
        return lease;
    }
    ~Lease() {
        if (!taken_) return;
        WireWriter message;
        message.text(1, id_);
        static_cast<void>(api_.ask("leases.v1.Leases/Delete", message.bytes(), Stop()));
    }
    // What is there stays there.
    Result<> hold(const Digest& digest, const Stop& stop) {
        WireWriter resource;
        resource.text(1, digest.to_string());
        resource.text(2, "content");
        WireWriter message;
        message.text(1, id_);
        message.element(2, resource.bytes());
        TRY(api_.ask("leases.v1.Leases/AddResource", message.bytes(), stop));
        return {};
    }

private:
    Lease(Api& api, std::string id) : api_(api), id_(std::move(id)) {}
    Api& api_;
    std::string id_;
    bool taken_ = false;
};

// The labels of content that is there; nullopt when it is not.
Result<std::optional<Labels>> find_content(const Api& api, const Digest& digest, const Stop& stop) {
    WireWriter message;
    message.text(1, digest.to_string());
    const auto answer = api.ask("content.v1.Content/Info", message.bytes(), stop);
    if (!answer && answer.error().code() == Code::not_found) return std::nullopt;
    const std::string text = TRY(Result<std::string>(answer));
    Labels labels;
    for (WireReader response(text); !response.done();) {
        const auto info = TRY(response.next());
        if (info.id != 1 || !info.is_bytes()) continue;
        for (WireReader fields(info.bytes); !fields.done();) {
            const auto label = TRY(fields.next());
            if (label.id != 5 || !label.is_bytes()) continue;
            std::string key;
            std::string value;
            for (WireReader entry(label.bytes); !entry.done();) {
                const auto part = TRY(entry.next());
                if (part.id == 1 && part.is_bytes()) key = part.bytes;
                if (part.id == 2 && part.is_bytes()) value = part.bytes;
            }
            labels[key] = value;
        }
    }
    return labels;
}

Result<> add_labels(const Api& api, const Digest& digest, const Labels& labels, const Stop& stop) {
    WireWriter info;
    info.text(1, digest.to_string());
    put_labels(info, 5, labels);
    WireWriter mask;
    for (const auto& [key, value] : labels) mask.element(1, "labels." + key);
    WireWriter message;
    message.element(1, info.bytes());
    message.element(2, mask.bytes());
    TRY(api.ask("content.v1.Content/Update", message.bytes(), stop));
    return {};
}

Result<> forget_written(const Api& api, const oci::Descriptor& blob, const Stop& stop) {
    WireWriter message;
    message.text(1, "cooper-" + blob.digest.to_string());
    TRY(api.ask("content.v1.Content/Abort", message.bytes(), stop));
    return {};
}

// As much as there is room for, or is left.
Result<std::size_t> fill(ByteSource& source, std::span<std::byte> piece) {
    std::size_t filled = 0;
    while (filled < piece.size()) {
        const std::size_t got = TRY(source.read(piece.subspan(filled)));
        if (got == 0) break;
        filled += got;
    }
    return filled;
}

Result<> skip(ByteSource& source, std::uint64_t bytes) {
    std::vector<std::byte> buffer(1 << 16);
    while (bytes > 0) {
        const std::size_t got =
            TRY(source.read(std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), bytes))));
        if (got == 0) return fail(Code::data_loss, Blame::world, "a blob has become shorter");
        bytes -= got;
    }
    return {};
}

// How many bytes went over; none when all of them are in another namespace.
Result<std::uint64_t> write_content(const Api& api, const Wanted& wanted, std::uint64_t& found,
                                    std::atomic<std::uint64_t>& sent, const Stop& stop) {
    Writing writing(api, wanted.blob, stop);
    found = TRY(writing.begin());
    std::uint64_t moved = 0;
    if (found < wanted.blob.size) {
        const auto content = TRY(wanted.open());
        TRY(skip(*content, found));
        std::vector<std::byte> piece(kPiece);
        for (;;) {
            TRY(check_stop(stop));
            const std::size_t got = TRY(fill(*content, piece));
            if (got == 0) break;
            TRY(writing.add(as_text(std::span(piece).first(got))));
            moved += got;
            sent += got;
        }
    }
    TRY(writing.commit(wanted.labels));
    return moved;
}

bool is_locked(const Error& error) {
    return error.code() == Code::unavailable && error.message().find("locked") != std::string::npos;
}

// True when it was sent.
Result<bool> bring(const Api& api, Lease& lease, const Wanted& wanted, std::atomic<std::uint64_t>& sent,
                   const Stop& stop) {
    TRY(lease.hold(wanted.blob.digest, stop));
    bool again = false;
    for (int pause = 0;; pause++) {
        if (const auto labels = TRY(find_content(api, wanted.blob.digest, stop))) {
            const bool all = std::ranges::all_of(wanted.labels, [&](const auto& label) {
                const auto found = labels->find(label.first);
                return found != labels->end() && found->second == label.second;
            });
            if (!all) TRY(add_labels(api, wanted.blob.digest, wanted.labels, stop));
            return false;
        }
        std::uint64_t found = 0;
        const auto done = write_content(api, wanted, found, sent, stop);
        if (done) return *done > 0;
        if (pause == kPauses) return done.error();
        if (done.error().code() == Code::already_exists) continue;
        if (is_locked(done.error())) {
            TRY(http::wait_for(kPause, stop));  // somebody else writes it
            continue;
        }
        // What an interrupted transfer has left may be damaged.
        if (found == 0 || again || done.error().code() != Code::failed_precondition) return done.error();
        again = true;
        TRY(forget_written(api, wanted.blob, stop));
    }
}

Result<> bring_all(const Api& api, Lease& lease, const std::vector<Wanted>& all, std::atomic<std::uint64_t>& sent,
                   std::atomic<std::uint64_t>& blobs, const Stop& stop) {
    return parallel_for(all.size(), kAtOnce, [&](std::size_t i) -> Result<> {
        const bool was_sent = TRY_CONTEXT(bring(api, lease, all[i], sent, stop), "{}", all[i].blob.digest.to_string());
        if (was_sent) blobs++;
        return {};
    });
}

Wanted text_blob(const oci::Descriptor& blob, const std::string& text, Labels labels) {
    return {.blob = blob, .labels = std::move(labels), .open = [&text]() -> Result<std::unique_ptr<ByteSource>> {
                return std::make_unique<StringSource>(text);
            }};
}

// What a manifest refers to, so that it is kept as long as the manifest is.
Labels references(const Digest& config, const std::vector<Digest>& layers) {
    Labels labels;
    labels[std::string(kRefersTo) + "config"] = config.to_string();
    for (std::size_t i = 0; i < layers.size(); i++) labels[fmt::format("{}l.{}", kRefersTo, i)] = layers[i].to_string();
    return labels;
}

WireWriter image_message(const std::string& name, const oci::Descriptor& target) {
    WireWriter descriptor;
    descriptor.text(1, target.media_type);
    descriptor.text(2, target.digest.to_string());
    descriptor.uint(3, target.size);
    WireWriter image;
    image.text(1, name);
    image.element(3, descriptor.bytes());
    WireWriter message;
    message.element(1, image.bytes());
    return message;
}

Result<> name_image(const Api& api, const std::string& name, const oci::Descriptor& target, const Stop& stop) {
    const auto created = api.ask("images.v1.Images/Create", image_message(name, target).bytes(), stop);
    if (created || created.error().code() != Code::already_exists) {
        TRY(created);
        return {};
    }
    WireWriter mask;
    mask.element(1, "target");
    WireWriter message = image_message(name, target);
    message.element(2, mask.bytes());
    TRY(api.ask("images.v1.Images/Update", message.bytes(), stop));
    return {};
}

bool is_elsewhere(const oci::Descriptor& layer) {
    return oci::is_foreign_layer(layer.media_type) && !layer.urls.empty();
}

Result<HandedOver> take_image(Api api, exporter::Packer& packer, const exporter::ArchiveImage& image,
                              const Stop& stop) {
    const auto lease = TRY(Lease::take(api, stop));
    std::atomic<std::uint64_t> sent = 0;
    std::atomic<std::uint64_t> ignored = 0;
    std::atomic<std::uint64_t> layers_sent = 0;
    std::vector<Wanted> layers;
    std::vector<Wanted> texts;
    std::vector<Wanted> manifests;
    std::vector<Wanted> index;
    std::set<Digest> seen;
    Labels members;
    for (const auto& one : image.image.images) {
        std::vector<Digest> digests;
        for (const auto& layer : one.layers) {
            if (is_elsewhere(layer.blob)) continue;
            digests.push_back(layer.blob.digest);
            if (!seen.insert(layer.blob.digest).second) continue;
            layers.push_back({.blob = layer.blob, .labels = {}, .open = [&packer, &layer, &stop] {
                                  return packer.open_layer(layer, stop);
                              }});
        }
        if (seen.insert(one.config.digest).second) texts.push_back(text_blob(one.config, one.config_bytes, {}));
        manifests.push_back(text_blob(one.manifest, one.manifest_bytes, references(one.config.digest, digests)));
    }
    for (const auto& one : image.image.attestations) {
        std::vector<Digest> digests;
        for (const auto& layer : one.layers) {
            digests.push_back(layer.descriptor.digest);
            if (seen.insert(layer.descriptor.digest).second)
                texts.push_back(text_blob(layer.descriptor, layer.text, {}));
        }
        const auto& config = one.config.descriptor;
        if (seen.insert(config.digest).second) texts.push_back(text_blob(config, one.config.text, {}));
        manifests.push_back(text_blob(one.manifest.descriptor, one.manifest.text, references(config.digest, digests)));
    }
    if (image.image.index) {
        for (std::size_t i = 0; i < manifests.size(); i++)
            members[fmt::format("{}m.{}", kRefersTo, i)] = manifests[i].blob.digest.to_string();
        index.push_back(text_blob(*image.image.index, image.image.index_bytes, std::move(members)));
    }
    TRY(bring_all(api, *lease, layers, sent, layers_sent, stop));
    for (const auto* rest : {&texts, &manifests, &index}) TRY(bring_all(api, *lease, *rest, sent, ignored, stop));
    std::vector<std::string> names = image.names;
    if (names.empty()) names = {image.image.main_image().config.digest.to_string()};
    for (const auto& name : names) TRY_CONTEXT(name_image(api, name, image.image.target(), stop), "name it {}", name);
    return HandedOver{.layers = layers.size(), .layers_sent = layers_sent, .bytes_sent = sent};
}

class Containerd final : public Receiver {
public:
    Containerd(DialGrpc dial, std::string socket, std::string name_space)
        : dial_(std::move(dial)), socket_(std::move(socket)), name_space_(std::move(name_space)) {}

    Result<HandedOver> take(exporter::Packer& packer, const exporter::ArchiveImage& image, const Stop& stop) override {
        if (!peer_) {
            auto peer = dial_(socket_, stop);
            if (!peer) {
                return peer.error()
                    .with_context(fmt::format("ask containerd at {}", socket_))
                    .with_hint("is it running, and may you use its socket? --address names another");
            }
            peer_ = std::move(*peer);
        }
        return take_image(Api(*peer_, name_space_), packer, image, stop);
    }

private:
    DialGrpc dial_;
    std::string socket_;
    std::string name_space_;
    std::unique_ptr<GrpcPeer> peer_;
};

std::string first_of(const std::string& given, const char* variable, const char* usual) {
    if (!given.empty()) return given;
    const char* value = std::getenv(variable);
    return value != nullptr && *value != '\0' ? value : usual;
}

}  // namespace

Result<std::unique_ptr<Receiver>> open_containerd(DialGrpc dial, const std::string& address,
                                                  const std::string& name_space) {
    if (!dial) return fail(Code::internal, Blame::cooper, "this program cannot talk to containerd");
    std::string socket = first_of(address, "CONTAINERD_ADDRESS", "/run/containerd/containerd.sock");
    if (socket.starts_with("unix://")) socket.erase(0, 7);
    if (!socket.starts_with("/"))
        return bad_input("containerd at {} cannot be reached from here", quoted(socket))
            .with_hint("give the path of its socket; or pipe: cooper save IMAGE | ctr images import -");
    std::string in = first_of(name_space, "CONTAINERD_NAMESPACE", "default");
    return std::make_unique<Containerd>(std::move(dial), std::move(socket), std::move(in));
}

}  // namespace cooper::handover
