#include "registry/auth_challenge.hpp"

#include "base/text.hpp"

namespace cooper::registry {
namespace {

constexpr std::size_t kMaxChallenges = 16;
constexpr std::size_t kMaxParams = 32;
constexpr std::size_t kMaxHeaderBytes = 16 * 1024;

bool is_token_char(char c) {
    constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kOthers.find(c) != std::string_view::npos;
}

// A cursor over the header.
class Scanner {
public:
    explicit Scanner(std::string_view text) : text_(text) {}
    [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }
    [[nodiscard]] std::size_t position() const { return at_; }
    void rewind(std::size_t to) { at_ = to; }
    void skip() { ++at_; }
    void skip_spaces() {
        while (!at_end() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
    }
    void skip_separators() {
        while (!at_end() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == ',')) ++at_;
    }
    bool accept(char c) {
        if (at_end() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    std::string_view token() {
        const std::size_t start = at_;
        while (!at_end() && is_token_char(text_[at_])) ++at_;
        return text_.substr(start, at_ - start);
    }
    // A token, or a quoted string without its quotes and escapes.
    std::string value() {
        if (!accept('"')) return std::string(unquoted());
        std::string out;
        while (!at_end() && text_[at_] != '"') {
            if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
            out += text_[at_++];
        }
        accept('"');
        return out;
    }

private:
    std::string_view unquoted() {
        const std::size_t start = at_;
        while (!at_end() && text_[at_] != ',' && text_[at_] != ' ' && text_[at_] != '\t') ++at_;
        return text_.substr(start, at_ - start);
    }
    std::string_view text_;
    std::size_t at_ = 0;
};

// name = value pairs up to something that is none (the next scheme).
void read_params(Scanner& scan, Challenge& challenge) {
    for (;;) {
        scan.skip_separators();
        const std::size_t start = scan.position();
        const std::string name = to_lower(scan.token());
        scan.skip_spaces();
        if (name.empty() || !scan.accept('=')) {
            scan.rewind(start);
            return;
        }
        scan.skip_spaces();
        std::string value = scan.value();
        if (challenge.params.size() < kMaxParams) challenge.params.emplace(name, std::move(value));
    }
}

}  // namespace

std::string Challenge::param(const std::string& name) const {
    const auto found = params.find(name);
    return found == params.end() ? std::string() : found->second;
}

std::vector<Challenge> parse_challenges(std::string_view header) {
    std::vector<Challenge> challenges;
    Scanner scan(header.substr(0, kMaxHeaderBytes));
    while (!scan.at_end() && challenges.size() < kMaxChallenges) {
        scan.skip_separators();
        Challenge challenge{.scheme = to_lower(scan.token())};
        if (challenge.scheme.empty()) {
            scan.skip();  // a byte that starts nothing
            continue;
        }
        read_params(scan, challenge);
        challenges.push_back(std::move(challenge));
    }
    return challenges;
}

}  // namespace cooper::registry
