#include "exporter/options.hpp"

#include "base/text.hpp"
#include "oci/reference.hpp"

#include <algorithm>
#include <array>

namespace cooper::exporter {

namespace {

using Attrs = std::map<std::string, std::string>;

constexpr std::int64_t kMaxEpochSeconds = 9'000'000'000;

const std::vector<std::string> kImageKeys = {
    "annotation",   "attestation-inline", "compression",       "compression-level",     "force-compression", "name",
    "oci-artifact", "oci-mediatypes",     "rewrite-timestamp", "prefer-nondist-layers", "source-date-epoch", "max-size",
    "squash-waste"};
// One of them is misspelt in BuildKit, and so known.
const std::vector<std::string> kStoreKeys = {
    "danging-name-empty-only", "dangling-name-prefix", "name-canonical", "push",
    "push-by-digest",          "registry.insecure",    "store",          "unpack"};
const std::vector<std::string> kArchiveKeys = {"dest", "tar"};
const std::vector<std::string> kTreeKeys = {"attestation-prefix", "dest", "max-size", "mode", "platform-split",
                                            "source-date-epoch"};

std::vector<std::string> known_keys(ExportType type) {
    std::vector<std::string> keys;
    const auto add = [&](const std::vector<std::string>& more) { keys.insert(keys.end(), more.begin(), more.end()); };
    switch (type) {
        case ExportType::image:
            add(kImageKeys);
            add(kStoreKeys);
            break;
        case ExportType::oci:
        case ExportType::docker:
            add(kImageKeys);
            add(kArchiveKeys);
            break;
        case ExportType::local:
        case ExportType::tar:
            add(kTreeKeys);
            break;
        case ExportType::cacheonly:
            keys.emplace_back("max-size");
            break;
    }
    std::ranges::sort(keys);
    return keys;
}

Result<ExportType> parse_type(std::string_view type) {
    static constexpr std::array<std::pair<std::string_view, ExportType>, 7> kTypes{
        {{"image", ExportType::image},
         {"registry", ExportType::image},
         {"oci", ExportType::oci},
         {"docker", ExportType::docker},
         {"local", ExportType::local},
         {"tar", ExportType::tar},
         {"cacheonly", ExportType::cacheonly}}};
    std::vector<std::string> names;
    for (const auto& [name, value] : kTypes) {
        if (name == type) return value;
        names.emplace_back(name);
    }
    const auto near = nearest(type, names);
    return Error(bad_input("exporter {} could not be found{}", cooper::quoted(type),
                           near ? ", did you mean " + *near + "?" : ""))
        .with_hint("types: " + join(names, ", "));
}

// As Go's strconv.ParseBool.
Result<bool> parse_bool(const std::string& key, std::string_view value) {
    static constexpr std::array<std::string_view, 6> kTrue{"1", "t", "T", "TRUE", "true", "True"};
    static constexpr std::array<std::string_view, 6> kFalse{"0", "f", "F", "FALSE", "false", "False"};
    if (std::ranges::find(kTrue, value) != kTrue.end()) return true;
    if (std::ranges::find(kFalse, value) != kFalse.end()) return false;
    return bad_input("output attribute {}: {} is neither true nor false", key, cooper::quoted(value));
}

// Some flags may be given without a value, which means true; others may not.
Result<> read_flag(const Attrs& attrs, const std::string& key, bool& flag) {
    const auto found = attrs.find(key);
    if (found != attrs.end()) flag = found->second.empty() || TRY(parse_bool(key, found->second));
    return {};
}
Result<> read_bool(const Attrs& attrs, const std::string& key, bool& flag) {
    const auto found = attrs.find(key);
    if (found != attrs.end()) flag = TRY(parse_bool(key, found->second));
    return {};
}

// "200MB": decimal units, as sizes are printed; or KiB, MiB, GiB.
Result<std::uint64_t> parse_size(std::string_view key, std::string_view text) {
    static const std::map<std::string, std::uint64_t> kUnits = {{"", 1},
                                                                {"b", 1},
                                                                {"k", 1000},
                                                                {"kb", 1000},
                                                                {"m", 1000'000},
                                                                {"mb", 1000'000},
                                                                {"g", 1000'000'000},
                                                                {"gb", 1000'000'000},
                                                                {"kib", 1U << 10U},
                                                                {"mib", 1U << 20U},
                                                                {"gib", 1U << 30U}};
    const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
    const auto [whole, fraction] = cut(text.substr(0, digits), '.');
    const auto number = parse_int(whole);
    const auto unit = kUnits.find(to_lower(trim(text.substr(digits))));
    const auto tenths = fraction ? parse_int(*fraction) : std::optional<std::int64_t>(0);
    const bool fits = number && *number >= 0 && *number <= (std::int64_t{1} << 32) && tenths &&
                      (!fraction || (fraction->size() <= 3 && !fraction->empty()));
    if (!fits || unit == kUnits.end()) {
        return bad_input("{} {}: want a size such as 200MB or 1.5GB", key, cooper::quoted(text));
    }
    std::uint64_t parts = static_cast<std::uint64_t>(*tenths) * unit->second;
    for (std::size_t i = 0; fraction && i < fraction->size(); ++i) parts /= 10;
    return static_cast<std::uint64_t>(*number) * unit->second + parts;
}

Result<> read_compression(const Attrs& attrs, PackOptions& pack) {
    if (const auto found = attrs.find("compression"); found != attrs.end()) {
        const std::string& value = found->second;
        if (value == "uncompressed" || value == "none") {
            pack.compression = LayerCompression::none;
        } else if (value == "gzip") {
            pack.compression = LayerCompression::gzip;
        } else if (value == "zstd") {
            pack.compression = LayerCompression::zstd;
        } else if (value == "estargz") {
            pack.compression = LayerCompression::estargz;
        } else {
            const auto near = nearest(value, {"uncompressed", "gzip", "zstd", "estargz"});
            return Error(bad_input("compression {} is not supported{}", cooper::quoted(value),
                                   near ? ", did you mean " + *near + "?" : ""))
                .with_hint("compressions: gzip, zstd, estargz, uncompressed");
        }
    }
    if (const auto found = attrs.find("compression-level"); found != attrs.end()) {
        const auto level = parse_int(found->second);
        const int most = pack.compression == LayerCompression::zstd ? 22 : 9;
        if (!level || *level < 0 || *level > most) {
            return bad_input("compression-level {}: want a number from 0 to {}", cooper::quoted(found->second), most);
        }
        // 0 means the least there is: gzip members of stored blocks would only be larger.
        pack.level = std::max<int>(1, static_cast<int>(*level));
    }
    const bool oci_only = pack.compression == LayerCompression::zstd || pack.compression == LayerCompression::estargz;
    if (oci_only && !pack.oci_media_types) {
        return Error(bad_input("compression={} needs OCI media types", attrs.at("compression")))
            .with_hint("leave out oci-mediatypes=false, or use compression=gzip");
    }
    return {};
}

// "annotation.KEY", "annotation-manifest-descriptor[linux/arm64].KEY", "annotation-index.KEY".
Result<> read_annotation(const std::string& key, const std::string& value, ExportOptions& options) {
    const auto bracket = key.find('[');
    const auto closing = key.find(']');
    const bool of_platform = bracket != std::string::npos && bracket < key.find('.');
    if (of_platform && closing == std::string::npos) return bad_input("{}: the [ is never closed", cooper::quoted(key));
    const auto dot = key.find('.', of_platform ? closing : 0);
    std::string kind = key.substr(0, of_platform ? bracket : dot);
    const std::string name = dot == std::string::npos ? "" : key.substr(dot + 1);
    if (name.empty() || (of_platform && dot != closing + 1)) {
        return bad_input("annotation {} has no key: want annotation.KEY=VALUE", cooper::quoted(key));
    }
    ImageAnnotations one;
    if (kind == "annotation" || kind == "annotation-manifest") {
        one.manifest[name] = value;
    } else if (kind == "annotation-manifest-descriptor") {
        one.descriptor[name] = value;
    } else if (kind == "annotation-index" || kind == "annotation-index-descriptor") {
        if (of_platform) {
            return Error(bad_input("{}: an index is for all platforms", cooper::quoted(key)))
                .with_hint(fmt::format("write {}.{}", kind, name));
        }
        (kind == "annotation-index" ? options.index_annotations : options.index_descriptor_annotations)[name] = value;
        return {};
    } else {
        const auto near = nearest(kind, {"annotation", "annotation-manifest", "annotation-manifest-descriptor",
                                         "annotation-index", "annotation-index-descriptor"});
        return bad_input("unknown kind of annotation {}{}", cooper::quoted(kind),
                         near ? ", did you mean " + *near + "?" : "");
    }
    if (!of_platform) {
        options.pack.annotations.merge(one.manifest);
        options.pack.descriptor_annotations.merge(one.descriptor);
        return {};
    }
    const std::string text = key.substr(bracket + 1, closing - bracket - 1);
    const oci::Platform platform = TRY_CONTEXT(oci::parse_platform(text), "{}", cooper::quoted(key));
    ImageAnnotations& all = options.of_platforms[oci::format_platform(platform)];
    all.manifest.merge(one.manifest);
    all.descriptor.merge(one.descriptor);
    return {};
}

Result<> add_name(std::string_view text, ExportOptions& options) {
    if (text == "*") {
        return Error(bad_input("output name \"*\": this build names no image itself"))
            .with_hint("write name=IMAGE:TAG");
    }
    const oci::Reference reference =
        TRY(options.push_by_digest ? oci::Reference::parse_untagged(text) : oci::Reference::parse_normalized(text));
    if (!reference.digest().empty()) return bad_input("image name {} must not have a digest", cooper::quoted(text));
    if (options.push_by_digest && !reference.tag().empty()) {
        return Error(bad_input("can't push tagged ref {} by digest", cooper::quoted(text)))
            .with_hint("leave out the tag");
    }
    std::string name = options.push_by_digest ? reference.repository() : reference.canonical();
    if (std::ranges::find(options.names, name) == options.names.end()) options.names.push_back(std::move(name));
    return {};
}

Result<> read_image_attrs(const Attrs& attrs, ExportOptions& options, const std::vector<std::string>& tags) {
    TRY(read_bool(attrs, "oci-mediatypes", options.pack.oci_media_types));
    options.oci_artifact = options.pack.oci_media_types;
    TRY(read_bool(attrs, "oci-artifact", options.oci_artifact));
    if (options.oci_artifact && !options.pack.oci_media_types)
        return bad_input("oci-artifact=true and oci-mediatypes=false exclude each other");
    options.attestation_inline = options.type == ExportType::image;
    TRY(read_bool(attrs, "attestation-inline", options.attestation_inline));
    TRY(read_bool(attrs, "force-compression", options.pack.force_compression));
    TRY(read_bool(attrs, "rewrite-timestamp", options.pack.rewrite_timestamp));
    TRY(read_bool(attrs, "prefer-nondist-layers", options.pack.prefer_foreign_layers));
    TRY(read_flag(attrs, "name-canonical", options.name_canonical));
    TRY(read_flag(attrs, "danging-name-empty-only", options.dangling_only));
    if (const auto found = attrs.find("dangling-name-prefix"); found != attrs.end() && !found->second.empty()) {
        options.dangling_prefix =
            TRY_CONTEXT(oci::Reference::parse_untagged(found->second), "dangling-name-prefix").repository();
    }
    TRY(read_flag(attrs, "push", options.push));
    TRY(read_flag(attrs, "push-by-digest", options.push_by_digest));
    TRY(read_flag(attrs, "registry.insecure", options.insecure_registry));
    TRY(read_flag(attrs, "store", options.store));
    TRY(read_flag(attrs, "unpack", options.unpack));
    TRY(read_flag(attrs, "tar", options.tar));
    TRY(read_flag(attrs, "squash-waste", options.squash_waste));
    TRY(read_compression(attrs, options.pack));
    for (const auto& [key, value] : attrs) {
        if (key.starts_with("annotation")) TRY(read_annotation(key, value, options));
    }
    const bool of_descriptors =
        !options.pack.descriptor_annotations.empty() || !options.index_descriptor_annotations.empty() ||
        std::ranges::any_of(options.of_platforms, [](const auto& one) { return !one.second.descriptor.empty(); });
    if (!options.pack.oci_media_types && of_descriptors) {
        return bad_input("annotations of descriptors need OCI media types");
    }
    if (const auto found = attrs.find("name"); found != attrs.end()) {
        for (const auto& name : split(found->second, ',')) {
            if (!trim(name).empty()) TRY(add_name(trim(name), options));
        }
    }
    for (const auto& tag : tags) TRY(add_name(tag, options));
    if (options.pack.rewrite_timestamp && options.unpack) {
        return bad_input("unpack and rewrite-timestamp exclude each other: the unpacked layers keep their times");
    }
    return {};
}

}  // namespace

Result<ExportOptions> parse_export_options(std::string_view type, const Attrs& attrs, std::string_view dest,
                                           const std::vector<std::string>& tags, UnknownAttribute unknown) {
    ExportOptions options;
    options.type = TRY(parse_type(type));
    options.dest = dest;
    options.push = type == "registry";
    const std::vector<std::string> known = known_keys(options.type);
    const bool is_image =
        options.type == ExportType::image || options.type == ExportType::oci || options.type == ExportType::docker;
    for (const auto& [key, value] : attrs) {
        if (std::ranges::find(known, key) != known.end() || (is_image && key.starts_with("annotation"))) continue;
        if (unknown == UnknownAttribute::keep) {
            if (is_image) options.metadata[key] = value;
            continue;
        }
        const auto near = nearest(key, known);
        auto error = bad_input("unknown output attribute {} of type={}{}", cooper::quoted(key), type,
                               near ? ", did you mean " + *near + "?" : "");
        return known.empty() ? error : error.with_hint("attributes: " + join(known, ", "));
    }
    if (const auto found = attrs.find("dest"); found != attrs.end() && options.dest.empty())
        options.dest = found->second;
    if (const auto found = attrs.find("source-date-epoch"); found != attrs.end() && !found->second.empty()) {
        const auto seconds = parse_int(found->second);
        if (!seconds || *seconds < 0 || *seconds > kMaxEpochSeconds) {
            return bad_input("source-date-epoch {}: want seconds since 1970", cooper::quoted(found->second));
        }
        options.epoch_seconds = *seconds;
    }
    if (const auto found = attrs.find("mode"); found != attrs.end() && options.type == ExportType::local) {
        options.delete_others = found->second == "delete";
        if (!options.delete_others && found->second != "copy") {
            return Error(bad_input("mode {} is not supported", cooper::quoted(found->second)))
                .with_hint("mode=copy leaves other files of the destination alone, mode=delete removes them");
        }
    }
    if (const auto found = attrs.find("max-size"); found != attrs.end()) {
        options.max_size_bytes = TRY(parse_size("max-size", found->second));
    }
    if (const auto found = attrs.find("platform-split"); found != attrs.end()) {
        options.platform_split = TRY(parse_bool("platform-split", found->second));
    }
    if (const auto found = attrs.find("attestation-prefix"); found != attrs.end()) {
        options.attestation_prefix = found->second;
        if (options.attestation_prefix.find('/') != std::string::npos)
            return bad_input("attestation-prefix {} has a slash in it", cooper::quoted(found->second));
    }
    if (is_image) TRY(read_image_attrs(attrs, options, tags));
    const bool to_directory = options.type == ExportType::local || (is_image && !options.tar);
    if (to_directory && (options.dest.empty() || options.dest == "-")) {
        return bad_input("--output type={} needs dest=DIRECTORY", type);
    }
    return options;
}

}  // namespace cooper::exporter
