import re

from PIL import Image

from kovilt.visualization import write_report


def test_the_page_holds_everything_and_loads_nothing(tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'curves.png')
    page = write_report(
        tmp_path / 'new' / 'report.html',
        title='Rooms',
        lead='정확도 <90 %>',
        tables={'Accuracy': (['type', 'questions', 'percent'], [['색 & 모양', 1234, 66.6667]])},
        images={'curves': tmp_path / 'curves.png'},
        sentences=['무슨 색?  답: 빨강'],
        footer='make quickstart',
    ).read_text(encoding='utf-8')
    assert 'data:image/png;base64,iVBOR' in page and '<script' not in page and not re.search('https?:', page)
    assert """http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;""" in page
    assert '<td>색 &amp; 모양</td><td>1234</td><td>66.67</td>' in page and '&lt;90 %&gt;' in page
    assert '<li>무슨 색?  답: 빨강</li>' in page


def test_no_text_of_a_user_is_markup(tmp_path):
    attack = '<script>alert("x")</script>\'{{ 7 * 7 }}'
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    page = write_report(
        tmp_path / 'report.html',
        title=attack,
        lead=attack,
        tables={attack: ([attack], [[attack]])},
        images={attack: tmp_path / 'a.png'},
        sentences=[attack],
        footer=attack,
    ).read_text(encoding='utf-8')
    assert '<script' not in page and '49' not in page.split('</style>')[1].split('base64')[0]
    assert page.count('&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;&#39;{{ 7 * 7 }}') == 10
