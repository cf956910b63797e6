"""Tables of labels: what is read, and what is refused with the line that is wrong."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsam_datasets.tables import LabelRow, LabelTable, count_labels, label_name, read_labels
from vsam_heatmaps.errors import VsamError
from vsam_heatmaps.photos.photo import id_from_stored

HEADER = "image,split,category,attributes\n"


def table_of(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return read_labels(path)


def refusal(tmp_path, text, photos=None) -> str:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(VsamError) as refused:
        read_labels(path, photos)
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_rows_keep_their_order_and_labels_are_sorted(tmp_path):
    table = table_of(
        tmp_path,
        HEADER + "b/2.jpg,train,skirt,striped;belt\na.jpg,val,dress,\nc.jpg,test,,belt\n",
    )
    assert table.rows == (
        LabelRow("b/2.jpg", "train", "skirt", ("belt", "striped")),
        LabelRow("a.jpg", "val", "dress", ()),
        LabelRow("c.jpg", "test", "", ("belt",)),
    )
    assert table.categories == ("dress", "skirt")
    assert table.attributes == ("belt", "striped")
    assert table.split("val") == table.rows[1:2]
    assert table.split("train") == table.rows[:1]


def test_spaces_around_labels_and_empty_or_repeated_ones_do_not_count(tmp_path):
    table = table_of(tmp_path, HEADER + "a.jpg, train , skirt ,; belt;;belt ; maxi;\n")
    assert table.rows == (LabelRow("a.jpg", "train", "skirt", ("belt", "maxi")),)


def test_columns_may_come_in_any_order_with_others_between(tmp_path):
    table = table_of(tmp_path, "attributes,note,split,image,category\nx;y,hello,train,a.jpg,tee\n")
    assert table.rows == (LabelRow("a.jpg", "train", "tee", ("x", "y")),)


def test_other_columns_may_hold_line_breaks(tmp_path):
    table = table_of(
        tmp_path, 'note,image,split,category,attributes\n"two\nlines",a.jpg,train,tee,x\n'
    )
    assert table.rows == (LabelRow("a.jpg", "train", "tee", ("x",)),)
    text = 'note,image,split,category,attributes\n"two\nlines",a,train,,\n,b,trial,,\n'
    assert "line 4: expected `split`" in refusal(tmp_path, text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_what_spreadsheets_write_is_read(tmp_path, encoding, ending):
    text = (HEADER + '"a, b.jpg",train,"tee ""new""",ärmellos\nc.jpg,val,,\n').replace("\n", ending)
    table = table_of(tmp_path, text, encoding)
    assert table.rows == (
        LabelRow("a, b.jpg", "train", 'tee "new"', ("ärmellos",)),
        LabelRow("c.jpg", "val", "", ()),
    )


names = st.text(st.characters(blacklist_characters=";\x00\r\n", blacklist_categories=["Cs"]))
labels = names.map(label_name).filter(bool)
images = names.filter(lambda name: id_from_stored(name) == name)


@given(
    rows=st.lists(
        st.tuples(
            images,
            st.sampled_from(["train", "val", "test"]),
            st.one_of(st.just(""), labels),
            st.sets(labels, max_size=3),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
@settings(max_examples=50, deadline=None)
def test_whatever_the_csv_module_writes_is_read_back(rows, tmp_path_factory):
    rows = [("first", "train", "", set()), *(row for row in rows if row[0] != "first")]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image", "split", "category", "attributes"])
    writer.writerows([(image, split, c, ";".join(a)) for image, split, c, a in rows])
    path = tmp_path_factory.mktemp("t") / "labels.csv"
    path.write_bytes(text.getvalue().encode())
    assert read_labels(path) == LabelTable(
        tuple(LabelRow(image, split, c, tuple(sorted(a))) for image, split, c, a in rows)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "but image and split and category and attributes is missing"),
        (
            "image;split;category;attributes\na;train;b;c\n",
            "is missing: its first line names 'image;split;category;attributes'. Put commas alone",
        ),
        ("image, split, category, attributes\n", "its first line names 'image', ' split', "),
        ("image,split,category\na.jpg,train,tee\n", "but attributes is missing"),
        (HEADER, "rows with the split train, but none of its 0 has"),
        (HEADER + "a.jpg,val,tee,\n", "rows with the split train, but none of its 1 has"),
        (HEADER + "a.jpg,train,tee,\nb.jpg,training,tee,\n", "line 3: expected `split`"),
        (
            HEADER + "a.jpg,train,tee,\nb.jpg\n",
            "line 3: expected 4 fields, as in the header, but got 1",
        ),
        (HEADER + "\n\na.jpg,train,tee\n", "line 4: expected 4 fields"),
        (HEADER + "a.jpg,train,tee,belt,maxi\n", "line 2: expected 4 fields"),
        ("image,split,category,attributes,split\na,train,b,c,d\n", "to have one column `split`"),
        (HEADER + 'a,train,tee,\nb,train,"tee,belt\nc,train,skirt,\n', "line 3: expected a record"),
        (HEADER + 'a,train,"tee"s,belt\n', "line 2: expected a record"),
        (
            HEADER + 'a,train,tee,"belt\nb,train,skirt,belt"\n',
            "line 2: expected `attributes` to be",
        ),
        (HEADER + 'a,train,"tee\r\nshirt",\n', "line 2: expected `category` to be on one line"),
        (HEADER + '"a\rb.jpg",train,tee,\n', "line 2: expected `image` to be on one line"),
        (HEADER + "a.jpg,train,tee,\n,train,tee,\n", "line 3: expected `image`"),
        (
            HEADER + "a.jpg,train,tee,\nb.jpg,val,,\na.jpg,val,tee,\n",
            "line 4: the image 'a.jpg' is on line 2 already",
        ),
        (HEADER.encode() + b"\xe4.jpg,train,tee,\n", "to be UTF-8 text, but byte 32 is not"),
        (HEADER + 'a.jpg,train,"tee,\n' + "b.jpg,train,tee,\n" * 9000, "field larger than"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, text, said):
    assert said in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        ("../ex/0100.jpg", "Name a photo in that folder"),
        ("ex/../../0100.jpg", "Name a photo in that folder"),
        ("/photos/a.jpg", "Name a photo in that folder"),
        ("./0002.jpg", "Write '0002.jpg'"),
        ("ex//0002.jpg", "Write 'ex/0002.jpg'"),
        ("ex/./0002.jpg", "Write 'ex/0002.jpg'"),
        ("0002.jpg/", "Write '0002.jpg'"),
        (".", "Name a photo in that folder"),
    ],
)
def test_an_image_has_one_name_below_the_photos(tmp_path, image, remedy):
    text = HEADER + f"0002.jpg,train,tee,\n{image},val,tee,\n"
    message = refusal(tmp_path, text)
    assert "line 3: expected `image` to be a path below the folder of photos" in message
    assert repr(image) in message
    assert remedy in message


COMPOSED, DECOMPOSED = "\u00e9t\u00e9", "e\u0301te\u0301"


def test_labels_that_look_the_same_are_one(tmp_path):
    text = HEADER + f"a,train,{COMPOSED},{DECOMPOSED}\nb,val,{DECOMPOSED},{COMPOSED};{DECOMPOSED}\n"
    table = table_of(tmp_path, text)
    assert table.categories == table.attributes == (COMPOSED,)
    assert table.rows[1].attributes == (COMPOSED,)


@pytest.mark.parametrize(
    ("listed", "there", "form"), [(COMPOSED, DECOMPOSED, "NFD"), (DECOMPOSED, COMPOSED, "NFC")]
)
def test_a_photo_whose_name_is_composed_otherwise_is_told(tmp_path, listed, there, form):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / f"{there}.jpg").touch()
    if (photos / f"{listed}.jpg").exists():
        pytest.skip("this file system takes both names for one")
    message = refusal(tmp_path, HEADER + f"{listed}.jpg,train,,\n", photos)
    assert ascii(f"{there}.jpg") in message
    assert f"Unicode's form {form}" in message


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(VsamError, match=r"Could not read .*none\.csv: No such file"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(VsamError, match="Could not read"):
        read_labels(tmp_path)


def test_images_that_are_not_there_are_counted_and_one_is_named(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").touch()
    (photos / "folder.jpg").mkdir()
    text = HEADER + "a.jpg,train,,\nb.jpg,train,,\nfolder.jpg,train,,\n"
    message = refusal(tmp_path, text, photos)
    assert message.startswith("2 of 3 images")
    assert "'b.jpg'" in message
    assert len(read_labels(tmp_path / "labels.csv").rows) == 3


def test_photos_must_be_a_folder(tmp_path):
    (tmp_path / "labels.csv").write_text(HEADER + "a.jpg,train,,\n")
    with pytest.raises(VsamError, match="Expected `--photos` to be a folder"):
        read_labels(tmp_path / "labels.csv", tmp_path / "labels.csv")


def test_labels_are_counted_and_unknown_categories_left_out(tmp_path):
    rows = table_of(
        tmp_path, HEADER + "a,train,tee,x;y\nb,train,,x\nc,train,tee,\nd,val,skirt,y\n"
    ).split("train")
    categories, attributes = count_labels(rows)
    assert categories == {"tee": 2}
    assert attributes == {"x": 2, "y": 1}
