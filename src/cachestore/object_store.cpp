#include "cachestore/object_store.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"

namespace cooper::cachestore {

namespace {
constexpr std::size_t kMaxNames = 50;
}  // namespace

Result<std::vector<std::string>> cache_names(const std::string& attribute) {
    if (attribute.empty()) return std::vector<std::string>{"buildkit"};
    std::vector<std::string> names = split(attribute, ';');
    std::erase(names, "");
    if (names.empty() || names.size() > kMaxNames)
        return bad_input("cache attribute name={}: want 1 to {} names with ';' between them", quoted(attribute),
                         kMaxNames);
    return names;
}

Result<std::vector<Index>> ObjectStore::get_indexes(const std::string& name, const Stop& stop) {
    TRY(check_index_name(name));
    std::vector<Index> found;
    for (const auto& own : names_) {
        auto text = TRY(read_text(name.empty() ? own : own + "." + name, stop));
        if (!text) continue;
        Index index;
        index.text = std::move(*text);
        found.push_back(std::move(index));
    }
    if (found.empty()) {
        return fail(Code::not_found, Blame::user, "{} has no cache named {}{}", place(), join(names_, ";"),
                    name.empty() ? "" : "." + name);
    }
    return found;
}

Result<oci::Descriptor> ObjectStore::put_index(const std::string& name, const Index& index, const Stop& stop) {
    TRY(check_index_name(name));
    for (const auto& own : names_) TRY(write_text(name.empty() ? own : own + "." + name, index.text, stop));
    oci::Descriptor written;
    written.media_type = index.media_type;
    written.digest = codec::sha256_of(index.text);
    written.size = index.text.size();
    return written;
}

}  // namespace cooper::cachestore
