"""Reports: right figures, the right photos, one file that loads nothing and trusts no text."""

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from image_files import jpeg
from made_shards import INFO, SIDE, make_record, write
from PIL import Image

from vsam_heatmaps import PARTS, Shards, Status, VsamError, list_photos
from vsam_heatmaps.landmarks import BODY, landmark_indices
from vsam_heatmaps.reports import write_report
from vsam_heatmaps.reports.survey import survey

VOID = {"meta", "link", "img", "br", "rect", "line"}


class Page(HTMLParser):
    """A page as a browser sees it: elements with attributes, and the text of each section."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {"": ""}
        self.styles = ""
        self._open: list[str] = []
        self._section = ""
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["id"]
            self.text[self._section] = ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "section":
            self._section = ""

    def handle_data(self, data):
        if "style" in self._open:
            self.styles += data
        else:
            self.text[self._section] += " ".join(data.split()) + "\n" if data.strip() else ""

    def pictures(self) -> list[tuple[str, Image.Image]]:
        """Give what each picture is said to show, and the picture."""
        found = []
        for tag, attrs in self.elements:
            if tag == "img":
                kind, _, data = attrs["src"].partition(";base64,")
                assert kind == "data:image/jpeg"
                found.append((attrs["alt"], Image.open(io.BytesIO(base64.b64decode(data)))))
        return found

    def bars(self, about: str) -> dict[str, str]:
        """Give the label and figure of each bar of a chart, as its hints tell them."""
        chart = self.source.split(f'aria-label="{about}"')[1].split("</svg>")[0]
        return dict(re.findall(r"<title>(.*): (.*)</title>", chart))


def report(folder: Path, **options) -> Page:
    out = folder.parent / "report.html"
    write_report(folder, out, **options)
    return Page(out)


def made_records():
    return [
        *(make_record(f"ok/{n:02d}.jpg", n, people=1 + n % 3) for n in range(40)),
        *(make_record(f"none/{n:02d}.jpg", n, Status.NO_POSE) for n in range(12)),
        *(
            make_record(f"bad/{n:02d}.jpg", n, Status.UNREADABLE, reason=f"it has {n}00 pixels")
            for n in range(7)
        ),
        make_record("bad/empty.jpg", 9, Status.UNREADABLE, reason="the file is empty"),
    ]


@pytest.fixture
def folder(tmp_path):
    made = made_records()
    write(tmp_path / "shards", 0, made[:30])
    write(tmp_path / "shards", 1, made[30:])
    return tmp_path / "shards"


@pytest.fixture
def pictured(tmp_path):
    """Six photos of one colour each, in shards and as files: `(photos, shards)`."""
    photos = tmp_path / "photos"
    photos.mkdir()
    made = []
    for number, (size, status) in enumerate(
        [
            ((90, 60), Status.OK),
            ((600, 1200), Status.OK),
            ((31, 7), Status.OK),
            ((640, 400), Status.NO_POSE),
            ((50, 50), Status.NO_POSE),
            ((500, 300), Status.UNREADABLE),  # of a kind that was not read then, say
        ]
    ):
        path = photos / f"{number}.png"
        Image.new("RGB", size, (40 * number, 200, 90)).save(path)
        sha256 = hashlib.sha256(path.read_bytes()).digest()
        changes = {} if status is Status.UNREADABLE else {"size": size}
        made.append(make_record(path.name, number, status, sha256=sha256, **changes))
    write(tmp_path / "shards", 0, made)
    return photos, tmp_path / "shards"


class TestFigures:
    def test_facts(self, folder):
        write(folder, 2, [make_record("ok/00.jpg", 99)])
        text = report(folder).text
        assert "60\nphotos\n" in text["facts"]
        assert "40\nwith a pose, 66.7 %\n" in text["facts"]
        assert "12\nnobody found, 20.0 %\n" in text["facts"]
        assert "8\nunreadable, 13.3 %\n" in text["facts"]
        assert "\nshards\n3\n" in text["facts"]
        assert "\nsuperseded records\n1\n" in text["facts"]
        assert re.search(r"\nwritten by\nvsam \d", text["facts"])
        for option in (
            f"side\n{SIDE}\n",
            "sigma\n0.08\n",
            "channels\nhead, shoulders, elbows, hands, hips, knees, feet\n",
            "max pixels\n1,000,000\n",
            f"pose model sha256\n{'ab' * 32}\n",
            "crops\nno\n",
        ):
            assert f"\n{option}" in text["facts"]

    def test_charts(self, folder):
        page = report(folder)
        made = [record for record in made_records() if record.status is Status.OK]
        means = [record.keypoints[:, 2].mean() for record in made]
        wanted, _ = np.histogram(means, bins=20, range=(0, 1))
        bars = page.bars("Photos by mean visibility, from 0 to 1")
        assert [int(count) for count in bars.values()] == wanted.tolist()
        assert list(bars)[:2] == ["0.00 to 0.05", "0.05 to 0.10"]
        assert f"{np.mean(means):.2f} over all." in page.text["poses"]

        for part, told in page.bars("Share of photos that show each part").items():
            joints = list(landmark_indices(BODY.joints_of(part)))
            seen = sum(  # random keypoints all lie in the photo
                (record.keypoints[joints, 2] >= INFO.min_visibility).any() for record in made
            )
            assert told.removesuffix(" %") in (f"{2.5 * seen:.1f}", f"{2.5 * seen:.0f}")

        people = page.bars("Photos by the number of people found")
        assert people == {"0": "12", "1": "14", "2": "13", "3": "13"}

    def test_sizes(self, tmp_path):
        sizes = [(255, 10), (256, 256), (300, 511), (5000, 5100), (100, 201), (95, 100), (94, 100)]
        sizes += [(201, 100), (200, 100), (106, 100)]
        kinds = [make_record(f"{n}.jpg", n, size=size) for n, size in enumerate(sizes)]
        write(tmp_path / "s", 0, [*kinds, make_record("x.jpg", 1, Status.UNREADABLE)])
        page = report(tmp_path / "s")
        assert page.bars("Photos by their longer side in pixels") == {
            "0 to 255": "7",
            "256 to 511": "2",
            "512 to 1023": "0",
            "1024 to 2047": "0",
            "2048 to 4095": "0",
            "4096 or more": "1",
        }
        assert page.bars("Photos by their shape") == {
            "tall": "1",
            "portrait": "2",
            "square": "3",
            "landscape": "1",
            "wide": "3",
        }
        assert "half have 201 or more" in page.text["photos"]

    def test_reasons_are_grouped(self, folder):
        text = report(folder).text["unreadable"]
        reasons = text.split("Reasons\n")[1]
        assert reasons.startswith(
            "7\nit has 000 pixels\nbad/00.jpg\n,\nbad/01.jpg\n,\nbad/02.jpg\n, …\n"
            "1\nthe file is empty\nbad/empty.jpg\n"
        )

    def test_reasons_without_end_take_no_memory_without_end(self, tmp_path):
        words = ["".join(chr(97 + int(digit)) for digit in str(n)) for n in range(300)]
        made = [
            make_record(f"{n}.jpg", n, Status.UNREADABLE, reason=f"it is {word}")
            for n, word in enumerate(words)
        ]
        write(tmp_path, 0, made)
        found = survey(Shards(tmp_path), 3, 0)
        assert len(found.reasons) == 201
        assert (found.reasons[0].text, found.reasons[0].count) == ("other reasons", 100)
        assert sum(reason.count for reason in found.reasons) == 300

    def test_nothing_but_unreadable_photos(self, tmp_path):
        write(tmp_path / "s", 0, [make_record("x.jpg", 1, Status.UNREADABLE)])
        page = report(tmp_path / "s")
        assert "0\nwith a pose, 0 %\n" in page.text["facts"]
        assert "1\nunreadable, 100 %\n" in page.text["facts"]
        assert set(page.bars("Share of photos that show each part").values()) == {"0 %"}
        assert set(page.text) == {"", "facts", "poses", "photos", "unreadable"}

    def test_landmarks_of_something_else(self, tmp_path):
        """A garment's: other channels, and no skeleton."""
        channels = ("collar", "sleeves", "waistline", "hem")
        info = replace(INFO, channels=channels, landmarks="garment")
        maps = np.zeros((4, SIDE, SIDE), np.uint8)
        maps[3, 3, 3] = 9
        keypoints = np.full((8, 4), 0.5, np.float32)
        photo = tmp_path / "photos" / "a.png"
        photo.parent.mkdir()
        Image.new("RGB", (90, 60), "teal").save(photo)
        sha256 = hashlib.sha256(photo.read_bytes()).digest()
        shirt = make_record("a.png", sha256=sha256)
        shirt = replace(shirt, heatmaps=maps, keypoints=keypoints, channels=channels)
        write(tmp_path / "s", 0, [shirt], info)
        page = report(tmp_path / "s", photos=list_photos([photo.parent]))
        assert page.bars("Share of photos that show each part") == {
            "collar": "0 %",
            "sleeves": "0 %",
            "waistline": "0 %",
            "hem": "100 %",
        }
        assert len(page.pictures()) == 4


class TestChoice:
    def test_the_worst_come_first(self, folder):
        found = survey(Shards(folder), 7, 0)
        made = [record for record in made_records() if record.status is Status.OK]
        means = sorted((float(record.keypoints[:, 2].mean()), record.id) for record in made)
        assert [id_ for _, id_ in found.worst] == [id_ for _, id_ in means[:7]]
        np.testing.assert_allclose([mean for mean, _ in found.worst], [m for m, _ in means[:7]])
        text = report(folder, samples=7).text["worst"]
        assert [text.index(id_) for _, id_ in means[:7]] == sorted(
            text.index(id_) for _, id_ in means[:7]
        )
        assert means[7][1] not in text

    def test_the_seed_chooses_the_random_ones(self, folder):
        shards = Shards(folder)
        chosen = [survey(shards, 5, seed) for seed in (0, 0, 1)]
        for found in chosen:
            for ids, status in (
                (found.random, Status.OK),
                (found.no_pose, Status.NO_POSE),
                (found.unreadable, Status.UNREADABLE),
            ):
                assert len(set(ids)) == 5
                assert ids == sorted(ids)
                assert {shards.status(id_) for id_ in ids} == {status}
        assert chosen[0].random == chosen[1].random != chosen[2].random
        assert chosen[0].no_pose == chosen[1].no_pose != chosen[2].no_pose

    def test_every_photo_can_be_chosen(self, folder):
        shards = Shards(folder)
        seen = {id_ for seed in range(60) for id_ in survey(shards, 5, seed).random}
        assert len(seen) == 40

    def test_the_same_arguments_give_the_same_page(self, pictured):
        photos, folder = pictured
        pages = [
            report(folder, photos=list_photos([photos]), samples=1, seed=seed).source
            for seed in (0, 0, *range(1, 6))
        ]
        assert pages[0] == pages[1]
        assert len(set(pages)) > 1

    def test_without_samples(self, folder):
        page = report(folder, samples=0)
        assert set(page.text) == {"", "facts", "poses", "photos", "unreadable"}
        assert "Reasons" in page.text["unreadable"]
        with pytest.raises(VsamError, match="`samples` to be at least 0, but got -1"):
            report(folder, samples=-1)


class TestPictures:
    def test_each_photo_with_what_it_shows(self, pictured):
        photos, folder = pictured
        page = report(folder, photos=list_photos([photos]))
        drawn = {shows: picture for shows, picture in page.pictures()}
        assert sorted(drawn) == [
            *(f"maps of {n}.png" for n in range(3)),
            *(f"photo of {n}.png" for n in (3, 4, 5)),
            *(f"pose of {n}.png" for n in range(3)),
        ]
        assert len(page.pictures()) == 15  # those with a pose are random and worst
        sizes = {0: (90, 60), 1: (160, 320), 2: (31, 7), 3: (320, 200), 4: (50, 50), 5: (320, 192)}
        for shows, picture in drawn.items():
            number = int(shows[-5])
            assert picture.size == sizes[number]
            pixels = np.asarray(picture).astype(int)
            flat = np.abs(pixels - (40 * number, 200, 90)).max(axis=2) < 6
            if shows.startswith("photo"):
                assert flat.all()
            else:
                assert not flat.all()
        # A skeleton leaves the rest of the photo as it is, maps darken it.
        pose, maps = (
            np.asarray(drawn[f"{kind} of 1.png"]).astype(int) for kind in ("pose", "maps")
        )
        assert (np.abs(pose - (40, 200, 90)).max(axis=2) < 6).mean() > 0.3
        assert (np.abs(maps - (40, 200, 90)).max(axis=2) < 6).mean() < 0.05
        assert "1 person · 600 × 1200" in page.text["random"]
        assert "readable photos chosen below" not in page.source

    def test_photos_that_changed_or_are_gone_are_told(self, pictured):
        photos, folder = pictured
        Image.new("RGB", (90, 60), "red").save(photos / "0.png")
        (photos / "1.png").rename(photos / "new.png")
        (photos / "3.png").unlink()
        (photos / "3.png").symlink_to(photos / "nowhere.png")
        page = report(folder, photos=list_photos([photos]))
        assert {shows[-5] for shows, _ in page.pictures()} == {"2", "4", "5"}
        for section in ("random", "worst"):
            assert "its contents changed since the extraction\n0.png" in page.text[section]
            assert "not among the photos given\n1.png" in page.text[section]
        assert "can't be shown: No such file or directory\n3.png" in page.text["no-pose"]
        assert "5 of the readable photos chosen below are not drawn" in page.source
        assert (
            "1 record without a photo\n1.png\n1 photo without a record\nnew.png"
            in (page.text["strays"])
        )

    def test_strays_are_counted_beyond_those_listed(self, pictured):
        photos, folder = pictured
        for number in range(9):
            (photos / f"new{number}.jpg").touch()
        text = report(folder, photos=list_photos([photos]), samples=2).text["strays"]
        assert text.startswith(
            "Missing\n0 records without a photo\n9 photos without a record\n"
            "new0.jpg\nnew1.jpg\n… and 7 more\n"
        )

    def test_a_photo_that_could_not_be_opened_then(self, pictured):
        photos, folder = pictured
        Image.new("RGB", (90, 60)).save(photos / "later.png")
        gone = make_record("later.png", 1, Status.UNREADABLE, sha256=bytes(32))
        write(folder, 1, [gone])
        text = report(folder, photos=list_photos([photos])).text["unreadable"]
        assert "could not be opened when it was extracted\nlater.png\n" in text

    def test_photos_may_be_as_large_as_in_the_extraction(self, tmp_path):
        photo = tmp_path / "photos" / "large.jpg"
        photo.parent.mkdir()
        width, height = 11_000, 10_000  # 110 megapixels, decoded at an eighth
        photo.write_bytes(jpeg(width, height, channels=1))
        record = make_record(
            "large.jpg", 1, Status.NO_POSE, size=(width, height),
            sha256=hashlib.sha256(photo.read_bytes()).digest(),
        )  # fmt: skip
        for limit, pictures in ((width * height - 1, 0), (width * height, 1)):
            folder = tmp_path / str(limit)
            write(folder, 0, [record], replace(INFO, max_pixels=limit))
            page = report(folder, photos=list_photos([photo.parent]))
            assert len(page.pictures()) == pictures

    def test_broken_photos_have_no_picture(self, tmp_path):
        broken = tmp_path / "photos" / "broken.jpg"
        broken.parent.mkdir()
        broken.write_bytes(b"\xff\xd8\xff")
        sha256 = hashlib.sha256(b"\xff\xd8\xff").digest()
        write(tmp_path / "s", 0, [make_record("broken.jpg", 1, Status.UNREADABLE, sha256=sha256)])
        page = report(tmp_path / "s", photos=list_photos([broken.parent]))
        assert page.pictures() == []
        assert "can't be shown: it is truncated" in page.text["unreadable"]

    def test_an_extraction(self, shards, mannequins, tmp_path):
        out = tmp_path / "report.html"
        write_report(shards, out, photos=list_photos([mannequins / "photos"]), samples=24)
        page = Page(out)
        posed = Shards(shards).counts()["ok"]
        assert len(page.pictures()) == 4 * posed + (24 - posed)
        assert max(max(picture.size) for _, picture in page.pictures()) <= 320
        assert out.stat().st_size < 24 * 6 * 60_000

    def test_without_photos_there_are_lists(self, folder):
        page = report(folder)
        assert page.pictures() == []
        assert set(page.text) == {"", "facts", "poses", "photos", "worst", "no-pose", "unreadable"}
        assert page.text["no-pose"].count("none/") == 12
        assert re.search(
            r"ok/\d\d\.jpg\nvisibility 0\.\d\d · \d (person|people) ·", page.text["worst"]
        )


class TestAlone:
    """The page loads nothing, and what comes from outside is text."""

    HOSTILE = (
        "<script>alert(1)</script>.jpg",
        "\"><img src=http://example.org/x.png onerror='alert(1)'>.jpg",
        "{{ 7 * 7 }}{% raw %}.jpg",
        "a\nb\x07.jpg",
        "gpj.\u202egnp.exe",
        "&lt;b&gt;.jpg",
        "long" * 500 + ".jpg",
    )

    def check(self, page):
        names = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
        for tag, attrs in page.elements:
            assert tag not in (
                "script",
                "iframe",
                "object",
                "embed",
                "base",
                "form",
                "image",
                "use",
            )
            assert not [name for name in attrs if name.startswith("on")]
            for name, value in attrs.items():
                if name in ("src", "srcset", "href", "action", "data", "xlink:href"):
                    inside = value.startswith("#") and value[1:] in names
                    assert inside or value.startswith("data:")
                elif name not in ("alt", "title"):
                    assert "//" not in value
        assert "url(" not in page.styles
        assert "@import" not in page.styles
        assert all("url(" not in attrs.get("style", "") for _, attrs in page.elements)
        [policy] = [a["content"] for t, a in page.elements if a.get("http-equiv")]
        assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

    def test_nothing_is_loaded(self, folder, pictured, tmp_path):
        photos, other = pictured
        self.check(report(folder))
        self.check(report(other, photos=list_photos([photos])))

    def test_ids_and_reasons_are_text(self, tmp_path):
        made = []
        for number, id_ in enumerate(self.HOSTILE):
            made.append(make_record("ok" + id_, number))
            made.append(make_record("none" + id_, number, Status.NO_POSE))
            made.append(make_record("bad" + id_, number, Status.UNREADABLE, reason=id_))
        write(tmp_path / "<b>shards", 0, made)
        photos = tmp_path / "photos"
        photos.mkdir()
        (photos / "<script>alert(2)<").mkdir()
        (photos / "<script>alert(2)<" / "script>.jpg").touch()
        for given in (None, list_photos([photos])):
            page = report(tmp_path / "<b>shards", photos=given)
            self.check(page)
            assert len(page.source) < 60_000
            for section, start in (("worst", "ok"), ("no-pose", "none"), ("unreadable", "bad")):
                text = page.text[section]
                for id_ in self.HOSTILE[:3]:
                    assert f"{start}{id_}\n" in text
                assert rf"{start}a\nb\x07.jpg" in text
                assert rf"{start}gpj.\u202egnp.exe" in text
                assert f"{start}&lt;b&gt;.jpg" in text
                assert f"{start}long" in text
                assert "long" * 50 not in text
            assert "Heatmaps in\n<b>shards\n" in page.text[""]
        assert "<script>alert(2)</script>.jpg" in page.text["strays"]


class TestWriting:
    def test_a_damaged_shard_leaves_the_last_page(self, folder, tmp_path):
        out = tmp_path / "report.html"
        out.write_text("the last one")
        path = folder / "shard-000001.h5"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(VsamError, match=rf"^The shard {path} is damaged"):
            write_report(folder, out)
        assert out.read_text() == "the last one"

    def test_refusals(self, folder, tmp_path):
        with pytest.raises(VsamError, match="but it holds none"):
            write_report(tmp_path, tmp_path / "report.html")
        (tmp_path / "taken").mkdir()
        with pytest.raises(VsamError, match=r"^Could not write .*/taken: Is a directory\.$"):
            write_report(folder, tmp_path / "taken")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["shards", "taken"]


def test_all_parts_of_the_body_are_counted_for_single_joints_too(tmp_path):
    from vsam_heatmaps import LANDMARKS, RenderOptions, render_heatmaps

    info = replace(INFO, channels=LANDMARKS)
    record = make_record("a.jpg", 1)
    options = RenderOptions(SIDE, 0.08, "joints", 0.25)
    maps = render_heatmaps(record.keypoints, options)
    write(tmp_path, 0, [replace(record, heatmaps=maps, channels=LANDMARKS)], info)
    parts = survey(Shards(tmp_path), 1, 0).parts
    assert list(parts) == list(PARTS)
    joints = {part: list(landmark_indices(BODY.joints_of(part))) for part in PARTS}
    wanted = {part: int((record.keypoints[joints[part], 2] >= 0.25).any()) for part in PARTS}
    assert parts == wanted
