#include "engine/mount_caches.hpp"

#include "base/text.hpp"
#include "cachemount/sync.hpp"
#include "codec/sha256.hpp"
#include "engine/mount_key.hpp"
#include "http/client.hpp"

#include <algorithm>
#include <utility>

namespace cooper::engine {

namespace {

constexpr std::string_view kHeadType = "application/vnd.cooper.cachemount.v1+json";
constexpr std::size_t kMaxScopes = 16;
constexpr std::chrono::milliseconds kLeastSettling{500};
constexpr std::chrono::milliseconds kMostSettling{3'000};

std::string attribute(const CacheSpec& spec, const std::string& name) {
    const auto found = spec.attrs.find(name);
    return found == spec.attrs.end() ? std::string() : found->second;
}

std::vector<std::string> list_of(std::string text) {
    std::ranges::replace(text, ',', ';');
    std::vector<std::string> items;
    for (const auto& item : split(text, ';')) {
        if (const auto name = trim(item); !name.empty()) items.emplace_back(name);
    }
    return items;
}

class StorePlace final : public cachemount::Place {
public:
    explicit StorePlace(std::shared_ptr<cachestore::CacheStore> store) : store_(std::move(store)) {}
    std::map<std::string, oci::Descriptor> written;

    [[nodiscard]] std::string identity() const override { return store_->place(); }

    Result<std::optional<std::string>> read_head(const std::string& name, const Stop& stop) override {
        // What this build has written where the client gives the names.
        if (const auto own = own_.find(name); own != own_.end() && !store_->names_are_ours())
            return std::optional(own->second);
        auto heads = TRY(read_heads(name, stop));
        return heads.empty() ? std::optional<std::string>() : std::optional(std::move(heads.front()));
    }

    // Places cannot exchange an index only when it is still the same. So it is looked at just before and just after:
    // who was overwritten sees it and puts both together.
    Result<> write_head(const std::string& name, const std::string& manifest, const std::optional<std::string>& before,
                        const Stop& stop) override {
        const auto began = std::chrono::steady_clock::now();
        if (TRY(read_head(name, stop)) != before) return exchanged();
        const cachemount::Head head = TRY(cachemount::parse_head(manifest));
        cachestore::Index index;
        index.media_type = kHeadType;
        index.text = manifest;
        index.blobs = head.parts;
        index.blobs.insert(index.blobs.end(), head.packs.begin(), head.packs.end());
        const oci::Descriptor top = TRY(store_->put_index(name, index, stop));
        own_[name] = manifest;
        took_ = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
        if (!store_->names_are_ours()) {
            written[name] = top;
            return {};
        }
        const std::string digest = codec::sha256_of(manifest).to_string();
        for (const auto& now : TRY(read_heads(name, stop))) {
            if (now == manifest) return {};
            // Somebody who has built on ours has not lost it.
            const auto next = cachemount::parse_head(now);
            if (next && next->before == digest) return {};
        }
        return exchanged();
    }

    // Others take about as long as this one took between its look and its writing.
    Result<> settle(const Stop& stop) override {
        if (!store_->names_are_ours()) return {};
        return http::wait_for(std::clamp(2 * took_, kLeastSettling, kMostSettling), stop);
    }

    Result<> put(const oci::Descriptor& blob, std::string bytes, const Stop& stop) override {
        cachestore::PutBlob put;
        put.blob = blob;
        put.open = [&]() -> Result<std::unique_ptr<ByteSource>> { return std::make_unique<StringSource>(bytes); };
        TRY(store_->put(put, stop));
        return {};
    }

    Result<std::string> read(const oci::Descriptor& blob, std::uint64_t offset, std::uint64_t length,
                             const Stop& stop) override {
        const auto source = TRY(store_->get(blob, {.offset = offset, .length = length}, stop));
        std::string bytes = TRY(read_all(*source, length));
        if (bytes.size() != length)
            return fail(Code::data_loss, Blame::world, "{} ends too soon", blob.digest.to_string());
        return bytes;
    }

private:
    // Several where a place holds several caches as one.
    Result<std::vector<std::string>> read_heads(const std::string& name, const Stop& stop) {
        std::vector<std::string> heads;
        auto found = store_->get_indexes(name, stop);
        if (!found && found.error().code() == Code::not_found) return heads;
        for (auto& index : TRY(Result<std::vector<cachestore::Index>>(std::move(found)))) {
            // Objects have no type; what the text is it says itself.
            if (index.media_type == kHeadType || index.media_type.empty()) heads.push_back(std::move(index.text));
        }
        return heads;
    }

    static Error exchanged() {
        return fail(Code::aborted, Blame::world, "others write the same cache mount all the time");
    }

    std::shared_ptr<cachestore::CacheStore> store_;
    std::map<std::string, std::string> own_;
    std::chrono::milliseconds took_{0};
};

}  // namespace

bool MountChoice::takes(const std::string& key) const {
    const std::string plain(mount_without_content(key));
    return all || std::ranges::any_of(ids, [&](const std::string& id) {
               return key == id || shown_mount(key) == id || plain == id || shown_mount(plain) == id;
           });
}

MountChoice parse_mount_choice(const std::string& text) {
    MountChoice choice;
    choice.ids = list_of(text);
    choice.all = std::ranges::find(choice.ids, "*") != choice.ids.end();
    return choice;
}

std::string mount_name(const std::string& scope, const std::string& key) {
    const auto is_word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
    std::string name;
    for (const char c : to_lower(scope).substr(0, 24)) name += is_word(c) ? c : '-';
    // Scopes that look alike are still others.
    if (name != scope) name += "-" + codec::sha256_of(scope).hex().substr(0, 8);
    return fmt::format("mounts.{}.{}", name, codec::sha256_of(key).hex().substr(0, 20));
}

void MountCaches::add(const CacheSpec& spec, std::shared_ptr<cachestore::CacheStore> cache) {
    Source source;
    const auto said = spec.attrs.find("mounts");
    source.choice = parse_mount_choice(said == spec.attrs.end() ? "*" : said->second);
    if (!source.choice.all && source.choice.ids.empty()) return;
    source.scopes = list_of(attribute(spec, "mounts-scope"));
    if (source.scopes.empty()) source.scopes.emplace_back(kMainScope);
    if (source.scopes.size() > kMaxScopes) source.scopes.resize(kMaxScopes);
    source.cache = std::move(cache);
    sources_.lock()->push_back(std::move(source));
}

void MountCaches::restore(const std::string& key, VertexProgress& progress, const Stop& stop) {
    met_.lock()->insert(key);
    std::vector<Source> sources = *sources_.lock();
    std::erase_if(sources, [&](const Source& source) { return !source.choice.takes(key); });
    if (sources.empty()) return;
    std::shared_ptr<Guarded<bool>> once;
    {
        auto done = done_.lock();
        auto& kept = (*done)[key];
        if (kept == nullptr) kept = std::make_shared<Guarded<bool>>(false);
        once = kept;
    }
    auto done = once->lock();
    if (std::exchange(*done, true)) return;
    for (const auto& source : sources) {
        const auto restored = restore_from(source, key, progress, stop);
        if (restored) continue;
        if (restored.error().is_cancelled()) return;
        progress.log(
            2, fmt::format("cache mount {} is not restored: {}\n", shown_mount(key), restored.error().to_string()));
    }
}

Result<> MountCaches::restore_from(const Source& source, const std::string& key, VertexProgress& progress,
                                   const Stop& stop) {
    auto mount = TRY(store_.lock_cache_mount(key, fmt::format("cached mount with id \"{}\"", shown_mount(key)), stop));
    if (!mount) return {};  // in use, so it is there
    const std::string row = fmt::format("restoring cache mount {} from {}", shown_mount(key), source.cache->place());
    progress.status(row, row, 0, 0, false);
    const auto files = TRY(sys::RootedDir::open_host(mount->host_path()));
    const auto side = TRY(sys::RootedDir::open_host(mount->side_path()));
    std::vector<std::string> names;
    for (const auto& scope : source.scopes) names.push_back(mount_name(scope, key));
    StorePlace place(source.cache);
    const auto restored = cachemount::restore(place, names, {files, side}, stop);
    if (!restored) {
        progress.status(row, row, 0, 0, true);
        return restored.error();
    }
    std::string told = row + ": none is there";
    if (*restored) {
        const cachemount::Restored& done = **restored;
        const auto at = std::ranges::find(names, done.name) - names.begin();
        told = fmt::format("{}, scope {}: {} written, {} removed, {} fetched, {} were here", row,
                           source.scopes[static_cast<std::size_t>(at)], done.written, done.removed,
                           human_size(done.fetched_bytes), human_size(done.reused_bytes));
        if (mount->fresh()) TRY(mount->mark_seeded());
    }
    progress.status(row, told, 0, 0, true);
    return {};
}

// What steps of this build had began with; when none ran, what was used last.
Result<std::vector<std::string>> MountCaches::keys_with_content(const std::string& plain) {
    std::vector<std::string> keys;
    for (const auto& key : *met_.lock()) {
        if (key != plain && mount_without_content(key) == plain) keys.push_back(key);
    }
    if (!keys.empty()) return keys;
    Timestamp last{};
    for (const auto& mount : TRY(store_.cache_mounts())) {
        if (mount.key == plain || mount_without_content(mount.key) != plain ||
            (!keys.empty() && mount.last_used <= last))
            continue;
        keys = {mount.key};
        last = mount.last_used;
    }
    return keys;
}

// Those that the choice names. One that no step has and that is not here is a mistake in writing.
Result<std::vector<std::string>> MountCaches::keys_of(const Export& wanted) {
    const MountChoice choice = parse_mount_choice(attribute(wanted.spec, "mounts"));
    std::set<std::string> keys;
    for (const auto& key : wanted.used) {
        if (choice.takes(key)) keys.insert(key);
    }
    for (const auto& plain : wanted.used_with_content) {
        if (!choice.takes(plain)) continue;
        const std::vector<std::string> found = TRY(keys_with_content(plain));
        keys.insert(found.begin(), found.end());
    }
    const std::vector<std::string> here = TRY(store_.cache_mount_keys());
    for (const auto& id : choice.ids) {
        if (id == "*") continue;
        std::vector<std::string> known;
        bool found = false;
        for (const auto* list : {&here}) {
            for (const auto& key : *list) {
                known.push_back(shown_mount(key));
                if (key == id || shown_mount(key) == id) {
                    keys.insert(key);
                    found = true;
                }
            }
        }
        for (const auto& key : wanted.used) {
            known.push_back(shown_mount(key));
            found = found || key == id || shown_mount(key) == id;
        }
        for (const auto& plain : wanted.used_with_content) {
            known.push_back(shown_mount(plain));
            found = found || plain == id || shown_mount(plain) == id;
        }
        if (found) continue;
        const auto near = nearest(id, known);
        return bad_input("mounts={}: no step has a cache mount of that id, and none is here{}", quoted(id),
                         near ? fmt::format(", did you mean {}?", *near) : std::string());
    }
    return std::vector<std::string>(keys.begin(), keys.end());
}

Result<> MountCaches::save(Export& wanted, VertexProgress& progress, const Stop& stop) {
    const std::string said = attribute(wanted.spec, "mounts-scope");
    const std::vector<std::string> scopes = list_of(said);
    if (scopes.size() > 1)
        return bad_input("mounts-scope={}: one scope is written", quoted(said))
            .with_hint("--cache-from may read several");
    const std::string scope = scopes.empty() ? std::string(kMainScope) : scopes.front();
    StorePlace place(wanted.cache);
    for (const auto& key : TRY(keys_of(wanted))) {
        const std::string row = fmt::format("exporting cache mount {}", shown_mount(key));
        auto mount = TRY(store_.share_cache_mount(key));
        if (!mount) {
            progress.status(row, row + ": not here, or in use by another build", 0, 0, true);
            continue;
        }
        progress.status(row, row, 0, 0, false);
        const auto files = TRY(sys::RootedDir::open_host(mount->host_path()));
        const auto side = TRY(sys::RootedDir::open_host(mount->side_path()));
        cachemount::SaveTo to{.name = mount_name(scope, key), .id = shown_mount(key), .scope = scope, .also_read = {}};
        // What the trusted scope has already is not sent a second time.
        if (scope != kMainScope) to.also_read.push_back(mount_name(std::string(kMainScope), key));
        const auto saved =
            TRY_CONTEXT(cachemount::save(place, to, {files, side}, stop), "cache mount {}", shown_mount(key));
        std::string told = fmt::format("{} as scope {}: {} of {} sent", row, scope, human_size(saved.uploaded_bytes),
                                       human_size(saved.mount_bytes));
        if (saved.unsteady > 0) told += fmt::format(", {} files left out that others write to", saved.unsteady);
        progress.status(row, told, static_cast<std::int64_t>(saved.uploaded_bytes),
                        static_cast<std::int64_t>(saved.uploaded_bytes), true);
    }
    wanted.written = std::move(place.written);
    return {};
}

}  // namespace cooper::engine
