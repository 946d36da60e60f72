#include "engine/workshop.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "source/session_layout.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace cooper::engine {

namespace {

constexpr std::size_t kMaxPins = 10'000;

std::string attribute(const std::map<std::string, std::string>& attributes, const std::string& key) {
    const auto found = attributes.find(key);
    return found == attributes.end() ? std::string() : found->second;
}

Result<std::vector<std::string>> json_strings(const std::map<std::string, std::string>& attributes,
                                              const std::string& key) {
    std::vector<std::string> out;
    const auto found = attributes.find(key);
    if (found == attributes.end()) return out;
    const auto parsed = nlohmann::json::parse(found->second, nullptr, false);
    if (!parsed.is_array()) return bad_input("source attribute {} is no JSON list", key);
    for (const auto& item : parsed) {
        if (!item.is_string()) return bad_input("source attribute {} is no list of strings", key);
        out.push_back(item.get<std::string>());
    }
    return out;
}

Error broken_promise(const Error& error) {
    return Error(Code::not_found, error.blame(), error.to_string()).with_hint(error.hint());
}

class Promised final : public ByteSource {
public:
    explicit Promised(std::unique_ptr<ByteSource> inner) : inner_(std::move(inner)) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        auto got = inner_->read(buffer);
        if (!got && !got.error().is_cancelled()) return broken_promise(got.error());
        return got;
    }

private:
    std::unique_ptr<ByteSource> inner_;
};

// A live directory and what keeps it in place.
struct HeldContext {
    std::shared_ptr<session::LocalFiles> files;
    std::unique_ptr<source::LocalContext> context;
};

}  // namespace

Result<registry::Credential> Workshop::SessionCredentials::find(const std::string& host, const Stop& stop) {
    return session_.find_credential(host, stop);
}

std::unique_ptr<registry::Registry> Workshop::insecure_registry(const std::vector<oci::Reference>& names,
                                                                registry::Scheme scheme) {
    registry::RegistryConfig config = registry_config(engine_.config_);
    for (const auto& name : names) {
        registry::HostConfig& host = config.hosts[name.domain()];
        host.tls.verify = http::Verify::no;
        if (host.scheme == registry::Scheme::automatic) host.scheme = scheme;
    }
    return std::make_unique<registry::Registry>(std::move(config), credentials_, engine_.http_, http::RetryPolicy{});
}

Workshop::Workshop(LocalEngine& engine, std::shared_ptr<store::Store> store, std::shared_ptr<session::Session> session,
                   FindSession find_session, registry::CredentialSource* credentials)
    : engine_(engine),
      store_(std::move(store)),
      session_(std::move(session)),
      find_session_(std::move(find_session)),
      session_credentials_(*session_),
      credentials_(credentials != nullptr ? *credentials : session_credentials_),
      registry_(registry_config(engine.config_), credentials_, engine.http_, http::RetryPolicy{}),
      origin_(registry_),
      images_(*store_, *this, apply_limits(engine.config_, *store_), 4),
      http_(*store_, engine.http_, engine.config_.max_layer_bytes),
      git_(*store_, engine.config_.offline),
      secrets_(engine.config_.secret_leaks),
      trees_(*store_, *this, core_count()),
      packer_(
          *store_,
          [this](store::LayerId id, VertexProgress& progress, const Stop& stop) {
              auto done = images_.materialize(id, &progress, stop);
              if (!done) note_lost({{id}}, done.error());
              return done;
          },
          [this](const store::LazyLayer& lazy, const Stop& stop) {
              auto source = images_.open_blob(lazy.blob, lazy.reference, stop);
              if (!source) {
                  if (auto layers = store_->lazy_layers_of(lazy.blob.digest))
                      note_lost({std::move(*layers)}, source.error());
              }
              return source;
          },
          core_count()),
      mounts_(*store_),
      environment_{.store = *store_,
                   .holder = store_,
                   .trees = trees_,
                   .session = *session_,
                   .secrets = secrets_,
                   .clock = engine.clock_,
                   .executor = [this] { return engine_.executor(); },
                   .images = images_,
                   .http = http_,
                   .git = git_,
                   .local = [this](const std::string& name, const std::map<std::string, std::string>& attributes,
                                   VertexProgress& progress,
                                   const Stop& stop) { return open_local(name, attributes, progress, stop); },
                   .oci_layout =
                       [this](const std::map<std::string, std::string>& attributes, const Stop& stop) {
                           return layout_origin(attribute(attributes, "oci.store"),
                                                attribute(attributes, "oci.session"), stop);
                       },
                   .restore_cache_mount = [this](const std::string& key, VertexProgress& progress,
                                                 const Stop& stop) { mounts_.restore(key, progress, stop); },
                   .note_pin =
                       [this](const Digest& vertex, const ops::SourcePin& pin) {
                           pins_.lock()->insert_or_assign(vertex, pin);
                           auto all = engine_.source_pins_.lock();
                           if (all->size() >= kMaxPins) all->clear();
                           all->insert_or_assign(vertex, pin);
                       },
                   .threads = core_count()} {
    if (engine.config_.tag_max_age_s >= 0) images_.set_tag_max_age(std::chrono::seconds(engine.config_.tag_max_age_s));
}

std::optional<ops::SourcePin> Workshop::pin_of(const Digest& vertex) {
    {
        auto mine = pins_.lock();
        if (const auto found = mine->find(vertex); found != mine->end()) return found->second;
    }
    // Another build asked, and this one shared its answer.
    auto all = engine_.source_pins_.lock();
    const auto found = all->find(vertex);
    return found == all->end() ? std::nullopt : std::optional(found->second);
}

void Workshop::want_failed_step() {
    environment_.keep_failed = [this](const std::string& step, store::Chain files) {
        auto kept = failed_step_.lock();
        if (!kept->has_value()) *kept = FailedStep{step, std::move(files)};
    };
}

void Workshop::add_local(const std::string& name, store::Chain chain) { chains_[name] = std::move(chain); }

const store::Chain* Workshop::local_chain(const std::string& name) const {
    const auto found = chains_.find(name);
    return found == chains_.end() ? nullptr : &found->second;
}

Result<> Workshop::materialize(const store::Chain& chain, VertexProgress& progress, Stop stop) {
    auto done = images_.materialize(chain, &progress, stop);
    if (!done) note_lost(chain, done.error());
    return done;
}

void Workshop::note_lost(const store::Chain& chain, const Error& error) {
    static constexpr std::array kGone = {Code::not_found, Code::data_loss, Code::permission_denied,
                                         Code::unauthenticated};
    if (std::ranges::find(kGone, error.code()) == kGone.end()) return;
    for (const store::LayerId id : chain.layers) {
        const auto layer = store_->layer(id);
        if (!layer || layer->on_disk) continue;
        // When this fails, too, the build fails with the error it has.
        if (store_->drop_cache_results_with(id)) lost_layers_ = true;
    }
}

void Workshop::add_content(const Digest& blob, std::shared_ptr<cachestore::CacheStore> store) {
    (*contents_.lock())[blob].push_back(std::move(store));
}

Result<oci::Descriptor> Workshop::resolve(const oci::Reference& reference, const Stop& stop) {
    return origin_.resolve(reference, stop);
}

Result<std::string> Workshop::fetch_manifest(const oci::Reference& reference, const Digest& digest, const Stop& stop) {
    return origin_.fetch_manifest(reference, digest, stop);
}

Result<std::unique_ptr<ByteSource>> Workshop::fetch_blob(const oci::Reference& reference, const oci::Descriptor& blob,
                                                         std::uint64_t offset, const Stop& stop) {
    std::vector<std::shared_ptr<cachestore::CacheStore>> stores;
    {
        auto contents = contents_.lock();
        if (const auto found = contents->find(blob.digest); found != contents->end()) stores = found->second;
    }
    // Layers of a cache are a promise that nobody has to keep: when it is broken, the step runs.
    const bool of_registry = reference.canonical() != kCacheContent;
    const bool of_cache = !of_registry || std::ranges::any_of(stores, [&](const auto& store) {
        return store->reference() == reference.canonical();
    });
    std::optional<Error> failure;
    for (const auto& store : stores) {
        auto source = store->get(blob, {.offset = offset}, stop);
        if (source && of_cache) return std::unique_ptr<ByteSource>(std::make_unique<Promised>(std::move(*source)));
        if (source || source.error().is_cancelled()) return source;
        failure = source.error();
    }
    if (!of_cache) return origin_.fetch_blob(reference, blob, offset, stop);
    if (failure) return broken_promise(*failure);
    if (of_registry) return origin_.fetch_blob(reference, blob, offset, stop);
    return fail(Code::not_found, Blame::world, "layer {} is in a cache that this build does not have",
                blob.digest.to_string());
}

Result<std::shared_ptr<session::Session>> Workshop::client(const std::string& session_id, const Stop& stop) {
    if (session_id.empty() || session_id == session_->id() || !find_session_) return session_;
    return find_session_(session_id, stop);
}

Result<std::unique_ptr<source::ImageOrigin>> Workshop::layout_origin(const std::string& store_id,
                                                                     const std::string& session_id, const Stop& stop) {
    class Origin final : public source::ImageOrigin {
    public:
        Origin(std::shared_ptr<session::Session> session, const std::string& store)
            : session_(std::move(session)), origin_(*session_, store) {}
        Result<oci::Descriptor> resolve(const oci::Reference& reference, const Stop& stop) override {
            return origin_.resolve(reference, stop);
        }
        Result<std::string> fetch_manifest(const oci::Reference& reference, const Digest& digest,
                                           const Stop& stop) override {
            return origin_.fetch_manifest(reference, digest, stop);
        }
        Result<std::unique_ptr<ByteSource>> fetch_blob(const oci::Reference& reference, const oci::Descriptor& blob,
                                                       std::uint64_t offset, const Stop& stop) override {
            return origin_.fetch_blob(reference, blob, offset, stop);
        }

    private:
        std::shared_ptr<session::Session> session_;
        source::SessionLayoutOrigin origin_;
    };
    if (store_id.empty()) return bad_input("an oci-layout source names no store");
    return std::unique_ptr<source::ImageOrigin>(
        std::make_unique<Origin>(TRY(client(session_id, stop)), "oci:" + store_id));
}

Result<solver::SharedResult> Workshop::open_local(const std::string& name,
                                                  const std::map<std::string, std::string>& attributes,
                                                  VertexProgress& progress, const Stop& stop) {
    if (const store::Chain* chain = local_chain(name)) return ops::held_result(*chain, store_);
    session::LocalRequest request;
    request.name = name;
    request.session_id = attribute(attributes, "local.session");
    request.include = TRY(json_strings(attributes, "local.includepattern"));
    request.exclude = TRY(json_strings(attributes, "local.excludepatterns"));
    request.follow_paths = TRY(json_strings(attributes, "local.followpaths"));
    request.shared_key = attribute(attributes, "local.sharedkeyhint");
    const auto session = TRY(client(request.session_id, stop));
    // Patterns say what is sent. Where nothing is sent, one open directory does for all of them.
    const bool sent = !session->id().empty();
    std::string rules = name;
    for (const auto& pattern : request.exclude) rules += "\n" + pattern;
    std::string wanted = rules + "\n@" + request.session_id;
    if (sent)
        wanted += "\n" + attribute(attributes, "local.includepattern") + attribute(attributes, "local.followpaths");
    {
        auto opened = opened_.lock();
        if (const auto found = opened->find(wanted); found != opened->end()) {
            return solver::SharedResult(std::make_shared<const ops::Ref>(found->second));
        }
    }
    auto held = std::make_shared<HeldContext>();
    held->files = TRY(session->local_files(request, progress, stop));
    source::LocalOptions options;
    options.host_path = held->files->host_path();
    options.exclude = request.exclude;
    options.modes = sent ? snapshot::Modes::as_they_are : modes_;
    if (options.modes == snapshot::Modes::git) rules += "\nmodes of git";
    // One memory of digests per directory and rules.
    std::array<char, 4096> real{};
    const char* path = ::realpath(options.host_path.c_str(), real.data());
    const std::string identity = (path != nullptr ? path : options.host_path) + rules.substr(name.size());
    options.stat_cache_file =
        store_->root() + "/cache-mounts/context-" + codec::sha256_of(identity).hex().substr(0, 32);
    options.threads = core_count();
    held->context = TRY(source::LocalContext::open(options));
    const std::shared_ptr<source::LocalContext> context(held, held->context.get());
    const auto& kept = opened_.lock()->try_emplace(wanted, context).first->second;
    return solver::SharedResult(std::make_shared<const ops::Ref>(kept));
}

}  // namespace cooper::engine
