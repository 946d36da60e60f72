#include "source/oci_layout.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "oci/media_type.hpp"

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::source {
namespace {

constexpr std::size_t kMaxMarkerBytes = 4096;
constexpr const char* kRefName = "org.opencontainers.image.ref.name";
constexpr const char* kImageName = "io.containerd.image.name";

bool names(const oci::Descriptor& entry, const oci::Reference& reference) {
    const auto is = [&](const char* key, const std::string& value) {
        const auto found = entry.annotations.find(key);
        return found != entry.annotations.end() && found->second == value;
    };
    const std::string full = reference.without_digest().canonical();
    return is(kImageName, full) || is(kRefName, full) || is(kRefName, reference.tag());
}

}  // namespace

Result<OciLayoutOrigin> OciLayoutOrigin::open(const std::string& host_path) {
    sys::RootedDir dir = TRY(sys::RootedDir::open_host(host_path));
    const auto marker = dir.read_file("oci-layout", kMaxMarkerBytes);
    if (!marker) {
        return bad_input("{} is not an OCI image layout: it has no readable file oci-layout", host_path)
            .with_hint("skopeo copy … oci:DIR or cooper build --output type=oci,tar=false,dest=DIR make one");
    }
    const auto json = nlohmann::json::parse(*marker, nullptr, false);
    const auto version = json.is_object() ? json.find("imageLayoutVersion") : json.end();
    if (!json.is_object() || version == json.end() || !version->is_string() ||
        !version->get_ref<const std::string&>().starts_with("1.")) {
        return bad_input("{} is an OCI image layout of a version we do not know", host_path);
    }
    return OciLayoutOrigin(std::move(dir), host_path);
}

Result<sys::Fd> OciLayoutOrigin::open_blob(const Digest& digest) const {
    if (digest.algorithm() != Digest::Algorithm::sha256) return bad_input("only sha256 digests can be verified");
    auto file = dir_.open("blobs/sha256/" + digest.hex(), O_RDONLY | O_NONBLOCK, sys::Follow::no, 0);
    if (!file && file.error().code() == Code::not_found) {
        return fail(Code::not_found, Blame::user, "OCI layout {} has no blob {}", shown_, digest.to_string());
    }
    return file;
}

Result<oci::Descriptor> OciLayoutOrigin::resolve(const oci::Reference& reference, const Stop& stop) {
    if (!reference.digest().empty()) {
        const std::string bytes = TRY(fetch_manifest(reference, reference.digest(), stop));
        return oci::Descriptor{.media_type = TRY_CONTEXT(oci::sniff_media_type(bytes), "OCI layout {}", shown_),
                               .digest = reference.digest(),
                               .size = bytes.size()};
    }
    const std::string text = TRY_CONTEXT(dir_.read_file("index.json", oci::kMaxManifestBytes), "OCI layout {}", shown_);
    const oci::Index index = TRY_CONTEXT(oci::parse_index(text, ""), "OCI layout {}", shown_);
    const auto checked = [&](const oci::Descriptor& entry) -> Result<oci::Descriptor> {
        const sys::Fd file = TRY(open_blob(entry.digest));
        struct stat blob{};
        if (::fstat(file.get(), &blob) != 0) return fail_errno(errno, "look at a blob");
        if (static_cast<std::uint64_t>(blob.st_size) == entry.size) return entry;
        return bad_input("OCI layout {}: {} has {} bytes, and index.json says {}", shown_, entry.digest.to_string(),
                         blob.st_size, entry.size);
    };
    for (const oci::Descriptor& entry : index.manifests) {
        if (names(entry, reference)) return checked(entry);
    }
    if (index.manifests.size() == 1 && reference.tag() == "latest") return checked(index.manifests.front());
    return fail(Code::not_found, Blame::user, "OCI layout {} has no image with the tag {}", shown_, reference.tag())
        .with_hint("name it by its digest: see index.json there");
}

Result<std::string> OciLayoutOrigin::fetch_manifest(const oci::Reference& /*reference*/, const Digest& digest,
                                                    const Stop& /*stop*/) {
    const sys::Fd file = TRY(open_blob(digest));
    std::string bytes = TRY(sys::read_to_end(file.get(), oci::kMaxManifestBytes));
    if (codec::sha256_of(bytes) != digest) {
        return fail(Code::data_loss, Blame::user, "OCI layout {}: the file of {} has other bytes", shown_,
                    digest.to_string());
    }
    return bytes;
}

Result<std::unique_ptr<ByteSource>> OciLayoutOrigin::fetch_blob(const oci::Reference& /*reference*/,
                                                                const oci::Descriptor& blob, std::uint64_t offset,
                                                                const Stop& /*stop*/) {
    sys::Fd file = TRY(open_blob(blob.digest));
    if (lseek(file.get(), static_cast<off_t>(offset), SEEK_SET) < 0) return fail_errno(errno, "read a blob");
    return std::make_unique<sys::FdSource>(std::move(file));
}

}  // namespace cooper::source
