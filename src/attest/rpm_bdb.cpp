// "Packages" as RPM kept it before 4.16: a hash table of Berkeley DB, whose values are headers. A header is larger than
// a page as a rule: then the page says where a chain of overflow pages begins. Written in the byte order of the
// machine. Pages of other kinds are passed over, so neither buckets nor hashes matter.
#include "attest/packages.hpp"

#include <bit>

namespace cooper::attest {

namespace {

constexpr std::uint32_t kHashMagic = 0x061561;
constexpr std::size_t kPageHeader = 26;
constexpr std::size_t kMaxHeader = std::size_t{64} << 20U;

class HashTable {
public:
    explicit HashTable(std::string_view file) : file_(file) {}

    // False: this is no such table.
    bool open() {
        if (file_.size() < 512) return false;
        if (number(12, 4) != kHashMagic) big_ = true;
        if (number(12, 4) != kHashMagic) return false;
        constexpr std::size_t kTypeHashMeta = 8;
        // Nothing of RPM's is encrypted or has checksums.
        if (number(24, 1) != 0 || number(25, 1) != kTypeHashMeta || number(26, 1) != 0) return false;
        page_size_ = number(20, 4);
        return page_size_ >= 512 && page_size_ <= 65'536 && std::has_single_bit(page_size_);
    }

    // Calls with each value.
    template <class Take>
    void each_value(Take take) {
        constexpr std::size_t kUnsorted = 2;
        constexpr std::size_t kSorted = 13;
        for (std::size_t page = page_size_; page + page_size_ <= file_.size(); page += page_size_) {
            const std::size_t type = number(page + 25, 1);
            if (type != kUnsorted && type != kSorted) continue;
            // Keys and values in turn, from the end of the page; a list at its start says where.
            const std::size_t items = number(page + 20, 2);
            if (kPageHeader + 2 * items > page_size_) continue;
            for (std::size_t item = 1; item < items; item += 2) {
                const std::size_t end = number(page + kPageHeader + 2 * (item - 1), 2);
                const std::size_t begin = number(page + kPageHeader + 2 * item, 2);
                if (begin < kPageHeader || end > page_size_ || begin >= end) continue;
                const std::string value = value_of(file_.substr(page + begin, end - begin), page + begin);
                if (!value.empty() && !take(value)) return;
            }
        }
    }

private:
    [[nodiscard]] std::size_t number(std::size_t at, std::size_t size) const {
        std::size_t value = 0;
        for (std::size_t i = 0; i < size; ++i) {
            value = value << 8U | static_cast<unsigned char>(file_[at + (big_ ? i : size - 1 - i)]);
        }
        return value;
    }

    [[nodiscard]] std::string value_of(std::string_view item, std::size_t at) {
        constexpr char kHere = 1;
        constexpr char kElsewhere = 3;
        if (item.front() == kHere) return std::string(item.substr(1));
        if (item.front() != kElsewhere || item.size() < 12) return {};
        std::size_t page = number(at + 4, 4);
        const std::size_t size = number(at + 8, 4);
        if (size > kMaxHeader) return {};
        constexpr std::size_t kOverflow = 7;
        std::string value;
        while (page != 0 && value.size() < size) {
            // A page is of one value, so a table that wants more of them than it has is no table.
            if (page >= file_.size() / page_size_ || chained_++ > file_.size() / page_size_) return {};
            const std::size_t start = page * page_size_;
            const std::size_t here = number(start + 22, 2);
            if (number(start + 25, 1) != kOverflow || here == 0 || here > page_size_ - kPageHeader) return {};
            value += file_.substr(start + kPageHeader, here);
            page = number(start + 16, 4);
        }
        return value.size() == size ? value : std::string();
    }

    std::string_view file_;
    bool big_ = false;
    std::size_t page_size_ = 0;
    std::size_t chained_ = 0;  // pages that were followed
};

}  // namespace

std::vector<Package> parse_rpm_bdb(std::string_view file, const OsRelease& os) {
    std::vector<Package> out;
    HashTable table(file);
    if (!table.open()) return out;
    table.each_value([&](std::string_view value) {
        if (auto package = parse_rpm_header(value, os)) out.push_back(std::move(*package));
        return out.size() < kMaxPackages;
    });
    return out;
}

}  // namespace cooper::attest
