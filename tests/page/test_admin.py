"""Signing in, the account and the admin's sections in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.test_library import check_accessible, noise
from tests.suite.running import PASSWORD, Suite

OWN_PASSWORD = "three quiet rivers"


@pytest.fixture(scope="module")
def suite(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite for the admin view, without workers and without the analysis."""
    suite = Suite(tmp_path_factory.mktemp("suite"), settings={"AUTH__REGISTRATION": "invitation"})
    try:
        suite.start("auth", "separation-serve", "download", "gateway")
        yield suite
    finally:
        suite.stop()


@pytest.fixture
def stranger(browser: Browser, suite: Suite) -> Iterator[Page]:
    """The page in another user's browser."""
    context = browser.new_context(base_url=suite.url)
    yield context.new_page()
    context.close()


def sign_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def choose(page: Page, password: str, again: str) -> None:
    page.get_by_label("New password").fill(password)
    page.get_by_label("Repeat the password").fill(again)


def test_a_new_account_must_replace_its_one_time_password(page: Page, stranger: Page) -> None:
    page.goto("/admin")
    page.get_by_label("Name").fill("nina")
    page.get_by_role("button", name="Make an account").click()
    secret = page.get_by_role("status").filter(has_text="one-time password of nina").locator("code")
    password = secret.inner_text()
    expect(page.get_by_role("row", name=re.compile("^nina"))).to_contain_text("has a one-time password")

    stranger.goto("/songs/some-song")
    sign_in(stranger, "nina", password)
    expect(stranger.get_by_role("heading", name="Choose a password")).to_be_visible()
    check_accessible(stranger)
    choose(stranger, OWN_PASSWORD, OWN_PASSWORD + "!")
    stranger.get_by_role("button", name="Keep this password").click()
    expect(stranger.get_by_role("alert")).to_have_text(re.compile("differ"))
    stranger.reload()  # the form asks for the one-time password again
    stranger.get_by_label("One-time password").fill(password)
    choose(stranger, OWN_PASSWORD, OWN_PASSWORD)
    stranger.get_by_role("button", name="Keep this password").click()
    expect(stranger.get_by_role("link", name="nina")).to_be_visible()
    stranger.goto("/admin")
    expect(stranger.get_by_text("There is nothing here")).to_be_visible()

    page.reload()
    expect(secret).to_have_count(0)  # shown only once
    page.get_by_role("button", name="New password for nina").click()
    again = page.get_by_role("status").filter(has_text="one-time password of nina").locator("code").inner_text()
    # The page notices by itself that its session has ended.
    expect(stranger.get_by_role("button", name="Sign in")).to_be_visible()
    sign_in(stranger, "nina", OWN_PASSWORD)
    expect(stranger.get_by_role("alert")).to_have_text(re.compile("wrong password"))
    sign_in(stranger, "nina", again)
    choose(stranger, OWN_PASSWORD, OWN_PASSWORD)
    stranger.get_by_role("button", name="Keep this password").click()
    expect(stranger.get_by_role("link", name="nina")).to_be_visible()
    page.get_by_role("button", name="Disable nina").click()
    expect(page.get_by_role("button", name="Enable nina")).to_be_visible()
    expect(stranger.get_by_role("button", name="Sign in")).to_be_visible()
    sign_in(stranger, "nina", OWN_PASSWORD)
    expect(stranger.get_by_role("alert")).to_have_text(re.compile("disabled"))


def test_an_admin_lowers_a_users_quota(page: Page) -> None:
    room = page.get_by_label("Storage limit of admin in GB")
    for given, told in (("0.25", "of 250 MB"), ("", "take 0 B.")):
        page.goto("/admin")
        expect(room).to_have_value("" if given else "0.25")
        room.fill(given)
        with page.expect_response("**/admin/storage"):  # the list is requested again after the change
            room.press("Tab")
        page.goto("/account")
        expect(page.get_by_role("region", name="Storage")).to_contain_text(told)


def test_after_wrong_guesses_the_form_shows_how_long_to_wait(stranger: Page) -> None:
    stranger.goto("/")
    for _attempt in range(13):
        sign_in(stranger, "nobody", "a guess")
        expect(stranger.get_by_role("alert")).not_to_be_empty()
        if stranger.get_by_role("button", name=re.compile(r"Sign in in \d+ s")).count():
            break
    expect(stranger.get_by_role("alert")).to_have_text(re.compile(r"too many attempts; wait \d+ s"))
    expect(stranger.get_by_role("button", name="Sign in", exact=True)).to_be_enabled()


def test_an_invited_user_makes_and_ends_tokens_and_sessions(page: Page, stranger: Page) -> None:
    page.goto("/admin")
    page.get_by_role("button", name="Invite").click()
    address = page.get_by_role("status").filter(has_text="The address to share").locator("code").inner_text()
    expect(page.get_by_text("For 1 person")).to_be_visible()

    stranger.goto("/register#no-such-code")
    stranger.get_by_label("Name").fill("olga")
    choose(stranger, OWN_PASSWORD, OWN_PASSWORD)
    stranger.get_by_role("button", name="Create account").click()
    expect(stranger.get_by_role("alert")).to_have_text(re.compile("invitation", re.IGNORECASE))
    check_accessible(stranger)
    stranger.get_by_label("Invitation").fill(address.partition("#")[2])
    stranger.get_by_role("button", name="Create account").click()
    stranger.get_by_role("link", name="olga").click()
    stranger.get_by_label("Name").fill("my script")
    stranger.get_by_label("may change things").check()
    stranger.get_by_label("Your password").fill("not my password")
    stranger.get_by_role("button", name="Make a token").click()
    expect(stranger.get_by_text("wrong password")).to_be_visible()
    stranger.get_by_label("Your password").fill(OWN_PASSWORD)
    stranger.get_by_role("button", name="Make a token").click()
    expect(stranger.get_by_role("status").filter(has_text="The new token").locator("code")).to_have_text(
        re.compile(".{20}")
    )
    stranger.get_by_role("button", name="Delete the token my script").click()
    expect(stranger.get_by_text("read, write")).to_have_count(0)
    expect(stranger.get_by_role("row").filter(has_text="here")).to_have_count(1)
    stranger.get_by_role("button", name="Sign out", exact=True).click()
    expect(stranger.get_by_role("button", name="Sign in")).to_be_visible()
    page.reload()
    expect(page.get_by_text("For 1 person")).to_have_count(0)


def test_api_tokens_end_with_the_password_unless_they_are_kept_by_choice(page: Page, stranger: Page) -> None:
    page.goto("/admin")
    page.get_by_role("button", name="Invite").click()
    address = page.get_by_role("status").filter(has_text="The address to share").locator("code").inner_text()
    stranger.goto(f"/register#{address.partition('#')[2]}")
    stranger.get_by_label("Name").fill("pia")
    choose(stranger, OWN_PASSWORD, OWN_PASSWORD)
    stranger.get_by_role("button", name="Create account").click()
    stranger.get_by_role("link", name="pia").click()
    tokens = stranger.get_by_role("region", name="Tokens for scripts")
    tokens.get_by_label("Name").fill("my script")
    tokens.get_by_label("Your password").fill(OWN_PASSWORD)
    tokens.get_by_role("button", name="Make a token").click()
    token = tokens.get_by_role("button", name="Delete the token my script")
    expect(token).to_be_visible()

    password = stranger.get_by_role("region", name="Password", exact=True)
    ending = password.get_by_label("end my tokens for scripts as well")
    for old, new, ends in ((OWN_PASSWORD, "three loud rivers", False), ("three loud rivers", OWN_PASSWORD, True)):
        expect(ending).to_be_checked()  # the default
        ending.set_checked(ends)
        password.get_by_label("Old password").fill(old)
        choose(stranger, new, new)
        check_accessible(stranger)
        password.get_by_role("button", name="Change").click()
        expect(stranger.get_by_text(re.compile("The password is changed.*no longer valid"))).to_have_count(int(ends))
        expect(password.get_by_label("Old password")).to_have_value("")
        expect(token).to_have_count(0 if ends else 1)


def test_storage_is_shown_and_cleaned_and_signing_keys_are_renewed(page: Page) -> None:
    page.goto("/admin")
    page.get_by_role("link", name="Storage").click()
    page.get_by_role("button", name="Check only").click()
    expect(page.get_by_role("status").filter(has_text="would go")).to_be_visible()
    page.get_by_role("link", name="Keys").click()
    assert page.url.endswith("/admin/keys")
    page.get_by_role("button", name="Make a new key", exact=True).click()
    expect(page.get_by_text("There is a new key")).to_be_visible()


@pytest.mark.parametrize(
    ("scheme", "width", "sections"),
    [("light", 1280, ("", "/work", "/keys")), ("dark", 390, ("/storage", "/models", "/logs"))],
)
def test_every_section_is_accessible(page: Page, scheme: str, width: int, sections: tuple[str, ...]) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    for section in sections:
        page.goto(f"/admin{section}")
        expect(page.get_by_role("region").first).to_be_visible()
        check_accessible(page)


def test_models_logs_and_work_of_all_processes_are_shown(page: Page, tmp_path: Path) -> None:
    page.goto("/admin/models")
    expect(page.get_by_role("row").filter(has_text="spleeter_2stems")).to_contain_text(re.compile(r"\d+ MB.*here"))
    expect(page.get_by_role("row").filter(has_text="htdemucs_6s")).to_contain_text("offline")
    page.get_by_role("link", name="Logs").click()
    expect(page.get_by_role("row").filter(has_text="path=/api/v1/models").first).to_be_visible()
    page.get_by_role("combobox", name="Of", exact=True).select_option("download")
    page.get_by_label("Containing").fill("signed in")
    page.get_by_label("Containing").press("Tab")
    expect(page.get_by_text("No records")).to_be_visible()
    page.get_by_role("combobox", name="Of", exact=True).select_option("auth")
    expect(page.get_by_role("row").filter(has_text="signed in").first).to_be_visible()
    assert PASSWORD not in page.inner_text("main")

    page.goto("/")
    page.get_by_label("Song files").set_input_files(noise(tmp_path / "Nova.flac", 40))
    page.get_by_role("link", name="Admin", exact=True).click()
    page.get_by_role("link", name="Work").click()
    songs = page.get_by_role("region", name="Songs")
    expect(songs).to_contain_text("this server is at 1 of at most")
    expect(songs.get_by_role("row").filter(has_text="admin")).to_be_visible()
