// Registry: pushing blobs and manifests.
#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "http/url.hpp"
#include "oci/media_type.hpp"
#include "registry/detail/answer.hpp"
#include "registry/detail/state.hpp"
#include "registry/registry.hpp"

#include <algorithm>
#include <array>

namespace cooper::registry {
namespace {

using detail::Endpoint;
using detail::Scopes;

constexpr std::uint64_t kMonolithicBytes = 32ULL << 20;
constexpr std::uint64_t kChunkBytes = 32ULL << 20;
constexpr std::size_t kMaxMountTries = 3;

// One upload of one blob.
struct Upload {
    Registry::State& state;
    const Endpoint& endpoint;
    const oci::Reference& repository;
    const PushBlob& push;
    const Stop& stop;
    Scopes scopes;
    std::string what;
};

// Hands on a part of a source and says how far it got.
class WindowSource final : public ByteSource {
public:
    WindowSource(std::unique_ptr<ByteSource> inner, std::uint64_t start, std::uint64_t size,
                 const std::function<void(std::uint64_t)>& on_progress)
        : inner_(std::move(inner)), skip_(start), left_(size), at_(start), on_progress_(on_progress) {}

    Result<std::size_t> read(std::span<std::byte> buffer) override {
        std::array<std::byte, 64 * 1024> scratch;
        while (skip_ > 0) {
            const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, scratch.size()));
            const std::size_t n = TRY(inner_->read(std::span(scratch.data(), want)));
            if (n == 0) return too_short();
            skip_ -= n;
        }
        if (left_ == 0) return 0;
        const std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(left_, buffer.size()));
        const std::size_t n = TRY(inner_->read(buffer.first(want)));
        if (n == 0) return too_short();
        left_ -= n;
        at_ += n;
        if (on_progress_) on_progress_(at_);
        return n;
    }

private:
    [[nodiscard]] Error too_short() const {
        return fail(Code::data_loss, Blame::cooper, "the blob to push ends {} bytes early", skip_ + left_);
    }
    std::unique_ptr<ByteSource> inner_;
    std::uint64_t skip_;
    std::uint64_t left_;
    std::uint64_t at_;
    const std::function<void(std::uint64_t)>& on_progress_;
};

http::Body window_body(const PushBlob& push, std::uint64_t start, std::uint64_t size) {
    return http::Body{.size_bytes = size, .open = [&push, start, size]() -> Result<std::unique_ptr<ByteSource>> {
                          auto inner = TRY(push.open());
                          return std::make_unique<WindowSource>(std::move(inner), start, size, push.on_progress);
                      }};
}

// The Location of an upload, made absolute.
Result<std::string> location_of(const http::Response& response, const Upload& upload) {
    const auto location = response.headers.find("Location");
    if (!location) {
        return fail(Code::unavailable, Blame::world, "{}: {} does not say where to upload", upload.what,
                    upload.endpoint.domain);
    }
    const http::Url base = TRY(http::Url::parse(response.url));
    const http::Url target = TRY_CONTEXT(http::resolve(base, *location), "{}", upload.what);
    return target.to_string();
}

http::Request request_at(const Upload& upload, http::Method method, std::string url) {
    return http::Request{.method = method,
                         .url = std::move(url),
                         .tls = upload.endpoint.config->tls,
                         .redirects = http::Redirects::follow};
}

std::string with_digest(const std::string& location, const Digest& digest) {
    return location + (location.contains('?') ? "&" : "?") + "digest=" + http::percent_encode(digest.to_string());
}

// Opens an upload, trying to mount the blob from `from` when that is not empty. nullopt = mounted.
Result<std::optional<std::string>> begin(const Upload& upload, const std::string& from) {
    std::string path = upload.repository.path() + "/blobs/uploads/";
    Scopes scopes = upload.scopes;
    if (!from.empty()) {
        path += "?mount=" + http::percent_encode(upload.push.blob.digest.to_string()) +
                "&from=" + http::percent_encode(from);
        scopes.push_back("repository:" + from + ":pull");
    }
    http::Request post = Registry::State::request_to(upload.endpoint, http::Method::post, path);
    http::Response response =
        TRY_CONTEXT(upload.state.call(upload.endpoint, std::move(post), scopes, upload.state.retry, upload.stop), "{}",
                    upload.what);
    if (response.status == 201 && !from.empty()) return std::optional<std::string>();
    if (response.status != 202) return detail::error_of(response, upload.what, upload.endpoint.domain);
    return std::optional(TRY(location_of(response, upload)));
}

void abandon(const Upload& upload, const std::string& location) {
    // Politeness only: registries collect abandoned uploads themselves.
    const auto gone = upload.state.call(upload.endpoint, request_at(upload, http::Method::del, location), upload.scopes,
                                        http::kNoRetry, upload.stop);
    static_cast<void>(gone);
}

Result<> finish(const Upload& upload, http::Response response) {
    if (response.status == 201 || response.status == 204) return {};
    return detail::error_of(response, upload.what, upload.endpoint.domain);
}

Result<> put_whole(const Upload& upload, const std::string& location) {
    const oci::Descriptor& blob = upload.push.blob;
    http::Request put = request_at(upload, http::Method::put, with_digest(location, blob.digest));
    put.headers.add("Content-Type", "application/octet-stream");
    put.body = window_body(upload.push, 0, blob.size);
    return finish(upload, TRY_CONTEXT(upload.state.call(upload.endpoint, std::move(put), upload.scopes, http::kNoRetry,
                                                        upload.stop),
                                      "{}", upload.what));
}

// Where a broken upload stands: asks the registry. Updates location.
Result<std::uint64_t> committed_bytes(const Upload& upload, std::string& location) {
    http::Response response = TRY(upload.state.call(upload.endpoint, request_at(upload, http::Method::get, location),
                                                    upload.scopes, upload.state.retry, upload.stop));
    if (response.status != 204 && response.status != 202) {
        return detail::error_of(response, upload.what, upload.endpoint.domain);
    }
    if (response.headers.find("Location")) location = TRY(location_of(response, upload));
    const std::string range = response.headers.find("Range").value_or("");
    const auto [first, last] = cut(range.starts_with("bytes=") ? std::string_view(range).substr(6) : range, '-');
    const auto end = last ? parse_int(*last) : std::nullopt;
    // "0-0" is what an empty upload says too, so one byte is sent twice at most.
    if (!end || *end <= 0) return std::uint64_t{0};
    return static_cast<std::uint64_t>(*end) + 1;
}

struct ChunkOutcome {
    std::uint64_t next = 0;
    bool unsupported = false;
};

Result<ChunkOutcome> patch_chunk(const Upload& upload, std::string& location, std::uint64_t at) {
    const std::uint64_t size = std::min(kChunkBytes, upload.push.blob.size - at);
    http::Request patch = request_at(upload, http::Method::patch, location);
    patch.headers.add("Content-Type", "application/octet-stream");
    patch.headers.add("Content-Range", fmt::format("{}-{}", at, at + size - 1));
    patch.body = window_body(upload.push, at, size);
    http::Response response =
        TRY_CONTEXT(upload.state.call(upload.endpoint, std::move(patch), upload.scopes, http::kNoRetry, upload.stop),
                    "{}", upload.what);
    if (response.status == 202 || response.status == 201 || response.status == 204) {
        location = TRY(location_of(response, upload));
        return ChunkOutcome{.next = at + size};
    }
    if (response.status == 416) return ChunkOutcome{.next = TRY(committed_bytes(upload, location))};
    if (at == 0 && (response.status == 400 || response.status == 404 || response.status == 405)) {
        return ChunkOutcome{.unsupported = true};
    }
    return detail::error_of(response, upload.what, upload.endpoint.domain);
}

Result<> put_chunked(const Upload& upload, std::string location) {
    const std::uint64_t size = upload.push.blob.size;
    int failures = 0;
    std::uint64_t at = 0;
    while (at < size) {
        Result<ChunkOutcome> chunk = patch_chunk(upload, location, at);
        if (chunk && chunk->unsupported) {
            const auto fresh = TRY(begin(upload, ""));
            return put_whole(upload, *fresh);
        }
        if (chunk && chunk->next > at) {
            at = chunk->next;
            failures = 0;
            continue;
        }
        if (++failures >= upload.state.retry.attempts || (!chunk && !http::is_retryable(chunk.error()))) {
            if (!chunk) return chunk.error();
            return fail(Code::unavailable, Blame::world, "{}: {} takes no more bytes", upload.what,
                        upload.endpoint.domain);
        }
        TRY(http::wait_for(http::retry_delay(upload.state.retry, failures, nullptr), upload.stop));
        at = std::min(size, TRY(committed_bytes(upload, location)));
    }
    http::Request put = request_at(upload, http::Method::put, with_digest(location, upload.push.blob.digest));
    return finish(upload, TRY_CONTEXT(upload.state.call(upload.endpoint, std::move(put), upload.scopes,
                                                        upload.state.retry, upload.stop),
                                      "{}", upload.what));
}

// Sends all of it, starting over when a connection breaks.
Result<> send_blob(const Upload& upload, std::string location) {
    for (int attempt = 1;; ++attempt) {
        const Result<> sent =
            upload.push.blob.size <= kMonolithicBytes ? put_whole(upload, location) : put_chunked(upload, location);
        if (sent || !http::is_retryable(sent.error()) || attempt >= upload.state.retry.attempts) return sent;
        TRY(http::wait_for(http::retry_delay(upload.state.retry, attempt, nullptr), upload.stop));
        const auto fresh = TRY(begin(upload, ""));
        location = *fresh;
    }
}

// Repositories worth mounting from: what the caller knows, then what we pushed ourselves.
std::vector<std::string> mount_candidates(const Upload& upload) {
    std::vector<std::string> candidates = upload.push.mount_from;
    auto known = upload.state.blobs.lock();
    const auto found = known->repositories.find(upload.repository.domain() + " " + upload.push.blob.digest.to_string());
    if (found != known->repositories.end()) {
        candidates.insert(candidates.end(), found->second.begin(), found->second.end());
    }
    std::vector<std::string> unique;
    for (std::string& path : candidates) {
        if (path == upload.repository.path() || std::ranges::find(unique, path) != unique.end()) continue;
        if (unique.size() < kMaxMountTries) unique.push_back(std::move(path));
    }
    return unique;
}

Result<Pushed> push_new(const Upload& upload) {
    std::optional<std::string> location;
    for (const std::string& from : mount_candidates(upload)) {
        const auto begun = begin(upload, from);
        // A mount that is refused (no access to the other repository) is no reason to fail.
        if (!begun && begun.error().is_cancelled()) return begun.error();
        if (!begun) continue;
        if (!begun->has_value()) {
            if (location) abandon(upload, *location);
            return Pushed::mounted;
        }
        if (location) {
            abandon(upload, **begun);
        } else {
            location = **begun;
        }
    }
    if (!location) location = TRY(begin(upload, ""));
    TRY(send_blob(upload, *location));
    return Pushed::uploaded;
}

}  // namespace

Result<bool> Registry::blob_exists(const oci::Reference& repository, const Digest& digest, const Stop& stop) {
    if (state_->is_known(repository, digest)) return true;
    const Endpoint endpoint = state_->origin(repository.domain());
    const std::string what =
        fmt::format("look for blob {} in {}", digest.to_string(), repository.familiar_repository());
    http::Request head =
        State::request_to(endpoint, http::Method::head, repository.path() + "/blobs/" + digest.to_string());
    // Asked before a push, so with the scope of a push: one token for both.
    http::Response response = TRY_CONTEXT(
        state_->call(endpoint, std::move(head), scopes_for(repository, Access::push), state_->retry, stop), "{}", what);
    if (response.status == 404) return false;
    if (response.status != 200) return detail::error_of(response, what, endpoint.domain);
    state_->remember(repository, digest);
    return true;
}

Result<Pushed> Registry::push_blob(const oci::Reference& repository, const PushBlob& push, const Stop& stop) {
    const std::string key = repository.repository() + " " + push.blob.digest.to_string();
    {
        // Two images with a layer in common, pushed at once: the second waits and finds it there.
        auto blobs = state_->blobs.lock();
        if (!blobs.wait(stop, [&] { return !blobs->in_flight.contains(key); })) return cancelled();
        blobs->in_flight.insert(key);
    }
    const auto result = [&]() -> Result<Pushed> {
        if (TRY(blob_exists(repository, push.blob.digest, stop))) return Pushed::existed;
        const Endpoint endpoint = state_->origin(repository.domain());
        const Upload upload{
            .state = *state_,
            .endpoint = endpoint,
            .repository = repository,
            .push = push,
            .stop = stop,
            .scopes = scopes_for(repository, Access::push),
            .what = fmt::format("push blob {} to {}", push.blob.digest.to_string(), repository.familiar_repository())};
        const Pushed pushed = TRY(push_new(upload));
        state_->remember(repository, push.blob.digest);
        return pushed;
    }();
    state_->blobs.lock()->in_flight.erase(key);
    state_->blobs.notify_all();
    return result;
}

Result<Digest> Registry::push_manifest(const oci::Reference& reference, std::string_view media_type,
                                       std::string_view bytes, const Stop& stop) {
    const Digest digest = codec::sha256_of(bytes);
    if (!reference.digest().empty() && reference.digest() != digest) {
        return fail(Code::internal, Blame::cooper, "the manifest to push as {} has the digest {}", reference.familiar(),
                    digest.to_string());
    }
    const Endpoint endpoint = state_->origin(reference.domain());
    const std::string what = "push manifest " + reference.familiar();
    const std::string path =
        reference.path() + "/manifests/" + (reference.tag().empty() ? digest.to_string() : reference.tag());
    const Scopes scopes = scopes_for(reference, Access::push);

    http::Request head = State::request_to(endpoint, http::Method::head, path);
    head.headers.add("Accept", std::string(media_type));
    http::Response there =
        TRY_CONTEXT(state_->call(endpoint, std::move(head), scopes, state_->retry, stop), "{}", what);
    if (there.status == 200 && there.headers.find("Docker-Content-Digest") == digest.to_string()) return digest;
    there.body.reset();

    http::Request put = State::request_to(endpoint, http::Method::put, path);
    put.headers.add("Content-Type", std::string(media_type));
    put.body = http::text_body(std::string(bytes));
    http::Response response =
        TRY_CONTEXT(state_->call(endpoint, std::move(put), scopes, state_->retry, stop), "{}", what);
    if (response.status != 201 && response.status != 200 && response.status != 202) {
        return detail::error_of(response, what, endpoint.domain);
    }
    const std::string said = response.headers.find("Docker-Content-Digest").value_or("");
    if (said.starts_with("sha256:") && said != digest.to_string()) {
        return fail(Code::data_loss, Blame::world, "{}: {} stored {} instead of {}", what, endpoint.domain, said,
                    digest.to_string());
    }
    return digest;
}

}  // namespace cooper::registry
