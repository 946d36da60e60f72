#include "daemon/filter.hpp"

#include "base/text.hpp"

#include <array>
#include <re2/re2.h>

namespace cooper::daemon {

namespace {

constexpr std::size_t kMaxFilter = 64 << 10;

class Reader {
public:
    explicit Reader(std::string_view text) : text_(text) {}
    [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }
    bool take(std::string_view word) {
        if (!text_.substr(at_).starts_with(word)) return false;
        at_ += word.size();
        return true;
    }
    [[nodiscard]] Error wrong(std::string_view expected) const {
        return bad_input("invalid filter {} at character {}: expected {}", quoted(text_), at_ + 1, expected);
    }
    // "…" with \ before what is meant literally; /…/ and |…| without.
    Result<std::string> quoted_word() {
        const char mark = text_[at_++];
        std::string word;
        while (!at_end() && text_[at_] != mark) {
            if (mark == '"' && text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
            word.push_back(text_[at_++]);
        }
        if (at_end()) return wrong(fmt::format("the closing {}", mark));
        ++at_;
        return word;
    }
    Result<std::string> name() {
        if (!at_end() && text_[at_] == '"') return quoted_word();
        const std::size_t from = at_;
        while (!at_end() &&
               (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '_' || text_[at_] == '-')) {
            ++at_;
        }
        if (at_ == from) return wrong("the name of a field");
        return std::string(text_.substr(from, at_ - from));
    }
    Result<std::string> value() {
        const char mark = at_end() ? ',' : text_[at_];
        // A path begins with a slash, too.
        const bool pair = (mark == '/' || mark == '|') && text_.find(mark, at_ + 1) != std::string_view::npos;
        if (mark == '"' || pair) return quoted_word();
        const std::size_t end = std::min(text_.find(',', at_), text_.size());
        const std::string_view word = text_.substr(at_, end - at_);
        at_ = end;
        return std::string(word);
    }

private:
    std::string_view text_;
    std::size_t at_ = 0;
};

constexpr std::array<std::pair<std::string_view, Filter::Operator>, 7> kOperators = {{
    {"==", Filter::Operator::equal},
    {"!=", Filter::Operator::unequal},
    {"~=", Filter::Operator::matches},
    {"<=", Filter::Operator::at_most},
    {">=", Filter::Operator::at_least},
    {"<", Filter::Operator::less},
    {">", Filter::Operator::greater},
}};

}  // namespace

Result<Filter> Filter::parse(std::string_view text) {
    if (text.size() > kMaxFilter) return bad_input("a filter is longer than {} bytes", kMaxFilter);
    Filter filter;
    Reader reader(text);
    while (!reader.at_end()) {
        Selector selector;
        do selector.path.push_back(TRY(reader.name()));
        while (reader.take("."));
        for (const auto& [word, op] : kOperators) {
            if (!reader.take(word)) continue;
            selector.op = op;
            selector.value = TRY(reader.value());
            break;
        }
        if (selector.op == Operator::matches) {
            auto expression = std::make_shared<RE2>(selector.value, RE2::Quiet);
            if (!expression->ok()) {
                return bad_input("invalid filter {}: {} is no regular expression: {}", quoted(text),
                                 quoted(selector.value), expression->error());
            }
            selector.expression = std::move(expression);
        }
        filter.selectors_.push_back(std::move(selector));
        if (!reader.at_end() && !reader.take(",")) return reader.wrong("an operator (==, !=, ~=) or a comma");
    }
    return filter;
}

Result<bool> Filter::matches(const Fields& fields) const {
    for (const auto& selector : selectors_) {
        bool holds = false;
        switch (selector.op) {
            case Operator::present:
                holds = fields.find(selector.path).has_value();
                break;
            case Operator::equal:
                holds = fields.find(selector.path) == selector.value;
                break;
            case Operator::unequal:
                holds = fields.find(selector.path) != selector.value;
                break;
            case Operator::matches: {
                const auto value = fields.find(selector.path);
                holds = value && RE2::PartialMatch(*value, *static_cast<const RE2*>(selector.expression.get()));
                break;
            }
            default:
                if (!fields.compare) {
                    return bad_input("a filter compares {}, which has no order here", join(selector.path, "."))
                        .with_hint("==, != and ~= work");
                }
                holds = TRY(fields.compare(selector.path, selector.op, selector.value));
        }
        if (!holds) return false;
    }
    return true;
}

Result<std::vector<Filter>> parse_filters(const std::vector<std::string>& texts) {
    std::vector<Filter> filters;
    for (const auto& text : texts) {
        auto filter = TRY(Filter::parse(text));
        filters.push_back(std::move(filter));
    }
    return filters;
}

Result<bool> any_matches(const std::vector<Filter>& filters, const Filter::Fields& fields) {
    for (const auto& filter : filters) {
        if (TRY(filter.matches(fields))) return true;
    }
    return filters.empty();
}

}  // namespace cooper::daemon
